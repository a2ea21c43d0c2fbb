/**
 * Every error that this package raises on purpose, named as in Python's prow.errors:
 *
 *     ProwError
 *       InputError        an argument that cannot be used
 *         BudgetError     a byte budget below the minimum
 *       FormatError       bytes that are not a prow file this version can read
 *         HeaderError     truncated header, wrong magic, reserved bits set, impossible field
 *         VersionError    a format version this reader does not know
 *         DamagedError    full length, but the CRC is wrong
 *         LimitError      more pixels than the limit
 *       ModelError        an unknown model, or a bad model file
 */

export class ProwError extends Error {
  get name() {
    return this.constructor.name;
  }
}
export class InputError extends ProwError {}
export class BudgetError extends InputError {}
export class FormatError extends ProwError {}
export class HeaderError extends FormatError {}
export class VersionError extends FormatError {}
export class DamagedError extends FormatError {}
export class LimitError extends FormatError {}
export class ModelError extends ProwError {}
