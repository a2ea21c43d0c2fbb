"""Measurements of prow: `python -m benchmarks.NAME`. Rate always means bytes of the whole file.

    demo, strip          photos in a few hundred bytes, codec beside codec, as one picture
    rd, thumbs           rate and distortion of photos, and of previews of 64 x 64 px
    acceptance           does prow keep its promises: sizes, prefixes, tokens
    tasks                does a classifier see the same, can text be read, are faces found
    speed, kernels       seconds and memory; tiles a second on a GPU
    datasets.loss        are pictures lost when processes of a Ray cluster are killed
    datasets.speed       pictures a second and memory of a dataset
    datasets.study       what a classifier learns from few bytes a picture
    reliability.damage   is damage to files seen
    report               results of `rd` and pictures as one page
    fingerprint          did a change of the code change any file?
    reliability.interrupts   what is left of commands that are interrupted and killed
    reliability.determinism  the same tokens from other Pythons, packages, backends and threads

These are what people start. They use, and each of the three uses only those before it:

    common     pictures, command lines, processes, the machine, tables and files
    codecs     the codecs that are compared
    quality    metrics, records of measurements, summaries, their tables and plots

`results` has the measurements that docs/results.md is about.
"""
