/** Tokens as format_spec/tokens.py tells them; `counts` and `values` are null where there are none. */
export function told(tokens) {
  const rows = (parts) =>
    parts.map((part, i) => {
      const { kind, width, height } = tokens.plan[i];
      const counts = part && [...part.counts];
      return { kind, width, height, counts, values: part && counts.map((_, tile) => withoutZeros(part.values[tile])) };
    });
  const { width, height, base, grey, alpha } = tokens;
  return { width, height, base, grey, passes: rows(tokens.passes), alpha: alpha && rows(alpha) };
}

function withoutZeros(values) {
  const last = values ? values.findLastIndex((value) => value !== 0) : -1;
  return last < 0 ? [] : [...values.subarray(0, last + 1)];
}
