"""SHA-256 of the files of models and graphs in the package.

Written by `python -m prow.training.sums`, which has to be run whenever one of them is replaced.
"""

SHA256 = {
    "graphs/anchor-0fc45c6e/encoder.onnx": "05bfae3ee8b1bfaae742e754eaab448023f916f137a9b42ae1afc80c85771c5f",
    "graphs/anchor-0fc45c6e/inverse.onnx": "92b3eef5a87656f2e6306a5ab4ae012e5cbcd9dc1775d4d0d9ca41d75431c41d",
    "graphs/prow-small-405a6933/coarse_filter.onnx": "e97173fc712b75fe9d07a3389d3e40a766ed47eb2ccef672692f529cd0d1c9cd",
    "graphs/prow-small-405a6933/decoder.onnx": "9e6e8bc86b479a5fda722b6128e7297aa31d4f6a2d04b084b5b8f98eb18d9c5a",
    "graphs/prow-small-405a6933/encoder.onnx": "05bfae3ee8b1bfaae742e754eaab448023f916f137a9b42ae1afc80c85771c5f",
    "graphs/prow-small-405a6933/fine_filter.onnx": "ddf29efdba53b719db038016383221b5f66ba4148a031cad8aa5466728c0379c",
    "graphs/prow-small-405a6933/inverse.onnx": "92b3eef5a87656f2e6306a5ab4ae012e5cbcd9dc1775d4d0d9ca41d75431c41d",
    "graphs/prow-small-405a6933/light_filter.onnx": "4a0283895acfa5ea4eb20c6e8ca15072d13f34ff98f594d16d6f5492996bea85",
    "graphs/vivid/vivid.onnx": "3cda720c2b398b5df185b6bd901402caa5549b29bd02014427389f429c41c19d",
    "weights/anchor.safetensors": "5e3d8f617773e6563d432e9c31b51a32b2e1bfec83d5376d23d7e689132559ea",
    "weights/prow-small.safetensors": "03ec6951782a77b934e747e2d7026dac352b0e8896de8df14f708fadb7f52edb",
    "weights/vivid/prow-small.safetensors": "ad953e5f9e70935286d57e8e8f5e66377a3d193d514b6d28e58a68c9bf5f4021",
}
