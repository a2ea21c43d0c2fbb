/**
 * The networks of a model in ONNX Runtime Web. A graph of the model file has no weights; they are put into it here, as
 * initializers of a second GraphProto: protocol buffers merge a message that comes twice.
 */

const FLOAT = 1; // of TensorProto.DataType
const FIELDS = { model: { graph: 7 }, graph: { initializer: 5 }, tensor: { dims: 1, dataType: 2, name: 8, raw: 9 } };

/**
 * @typedef {typeof import("onnxruntime-web")} Ort
 * @typedef {Float32Array | BigInt64Array} Numbers
 */

export class Networks {
  /** @type {Map<string, Promise<import("onnxruntime-web").InferenceSession>>} */
  #sessions = new Map();

  /**
   * @param {import("./model.js").Model} model
   * @param {Ort} ort
   * @param {string[]} executionProviders
   */
  constructor(model, ort, executionProviders) {
    this.model = model;
    this.ort = ort;
    this.executionProviders = executionProviders;
  }

  /** Run a network.
   * @param {string} name
   * @param {Record<string, [Numbers, number[]]>} inputs numbers and shape of each
   * @returns {Promise<{ data: Float32Array, dims: readonly number[] }[]>} its outputs in order */
  async run(name, inputs) {
    const session = await this.session(name);
    /** @type {Record<string, import("onnxruntime-web").Tensor>} */
    const feeds = {};
    for (const input of session.inputNames) {
      const [data, dims] = inputs[input];
      feeds[input] = new this.ort.Tensor(data instanceof Float32Array ? "float32" : "int64", data, dims);
    }
    const results = await session.run(feeds);
    return session.outputNames.map((output) => {
      const { data, dims } = results[output];
      return { data: /** @type {Float32Array} */ (data), dims };
    });
  }

  /** The session of a network, made when it is first needed.
   * @param {string} name */
  session(name) {
    let session = this.#sessions.get(name);
    if (!session) {
      const content = withWeights(this.model.graph(name), [...this.model.weights(name)]);
      session = this.ort.InferenceSession.create(content, {
        executionProviders: this.executionProviders,
        graphOptimizationLevel: "all",
        logSeverityLevel: 3,
      });
      this.#sessions.set(name, session);
    }
    return session;
  }

  async release() {
    for (const session of this.#sessions.values()) await (await session).release();
    this.#sessions.clear();
  }
}

/** An ONNX model with weights.
 * @param {Uint8Array} model
 * @param {{ name: string, shape: number[], weights: Float32Array }[]} all
 * @returns {Uint8Array} */
function withWeights(model, all) {
  const { dims, dataType, name, raw } = FIELDS.tensor;
  const initializers = all.map((one) => {
    const { buffer, byteOffset, byteLength } = one.weights;
    return field(FIELDS.graph.initializer, [
      ...one.shape.flatMap((side) => [varint(dims << 3), varint(side)]),
      varint(dataType << 3),
      varint(FLOAT),
      ...field(name, [new TextEncoder().encode(one.name)]),
      ...field(raw, [new Uint8Array(buffer, byteOffset, byteLength)]),
    ]);
  });
  return joined([model, ...field(FIELDS.model.graph, initializers.flat())]);
}

/** A field of bytes, given in pieces: key, length, content.
 * @param {number} number
 * @param {Uint8Array[]} pieces */
function field(number, pieces) {
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
  return [varint((number << 3) | 2), varint(length), ...pieces];
}

/** @param {number} value below 2^32 */
function varint(value) {
  const bytes = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return Uint8Array.from([...bytes, value]);
}

/** @param {Uint8Array[]} pieces */
function joined(pieces) {
  const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}
