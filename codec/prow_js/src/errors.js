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
  name = "ProwError";
}
export class InputError extends ProwError {
  name = "InputError";
}
export class BudgetError extends InputError {
  name = "BudgetError";
}
export class FormatError extends ProwError {
  name = "FormatError";
}
export class HeaderError extends FormatError {
  name = "HeaderError";
}
export class VersionError extends FormatError {
  name = "VersionError";
}
export class DamagedError extends FormatError {
  name = "DamagedError";
}
export class LimitError extends FormatError {
  name = "LimitError";
}
export class ModelError extends ProwError {
  name = "ModelError";
}
