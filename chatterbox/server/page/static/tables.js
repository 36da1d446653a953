// Renders a schema as a table: fields with type, allowed values, default and bounds.
// Reads OpenAPI as this server writes it; makes no calls.

import { el } from "./dom.js";

const BOUNDS = { minimum: "≥", exclusiveMinimum: ">", maximum: "≤", exclusiveMaximum: "<", maxLength: "length ≤" };

let schemas = {};
let defaults = {};

/** Sets the schemas that `$ref` resolves to, and the loaded model's defaults by field. */
export function know(named, ofModel) {
  [schemas, defaults] = [named, ofModel];
}

export const resolved = (schema) => (schema?.$ref ? schemas[schema.$ref.split("/").pop()] : schema) ?? {};

/** The schema itself, or its single non-null alternative. */
function essence(schema) {
  const kinds = (schema.anyOf ?? []).map(resolved).filter(({ type }) => type !== "null");
  return kinds.length === 1 ? { ...kinds[0], ...schema } : { ...resolved(schema), ...schema };
}

function typeOf(schema) {
  const { type, enum: values, format, items, anyOf } = essence(schema);
  if (values) return values.join(" | ");
  if (schema.const !== undefined) return String(schema.const);
  if (format === "binary") return "file";
  if (type === "array") return `list of ${typeOf(items ?? {})}`;
  return type ?? anyOf?.map((kind) => typeOf(resolved(kind))).join(" | ") ?? "";
}

function defaultOf(name, schema) {
  if ((schema.default ?? null) !== null) return schema.default === "" ? "empty" : String(schema.default);
  return name in defaults ? `${defaults[name]} (this model)` : "";
}

function boundsOf(schema) {
  const known = essence(schema);
  const bounds = known.enum ? [] : Object.keys(BOUNDS).filter((name) => name in known);
  return bounds.map((name) => `${BOUNDS[name]} ${known[name]}`).join(", ");
}

/** Converts text with words in backticks to elements with code. */
export const coded = (text) =>
  (text ?? "").split("`").map((part, nth) => (nth % 2 ? el("code", {}, part) : part));

export function table(head, rows) {
  const row = (cells, kind) => el("tr", {}, ...cells.map((cell) => el(kind, {}, ...coded(cell))));
  return el("div", { className: "scroll" }, el("table", {}, row(head, "th"), ...rows.map((cells) => row(cells, "td"))));
}

/** A table of the fields by name, required ones first, sampling last; empty without fields. */
export function fieldsTable(schema, head = "Field") {
  const { properties = {}, required = [] } = resolved(schema);
  const needed = (name) => required.includes(name);
  const rank = (name) => (needed(name) ? 0 : name in defaults ? 2 : 1); // sampling comes last
  const names = Object.keys(properties).sort((a, b) => rank(a) - rank(b));
  if (!names.length) return "";
  const rows = names.map((name) => [
    name,
    typeOf(properties[name]),
    needed(name) ? "required" : defaultOf(name, properties[name]),
    boundsOf(properties[name]),
    essence(properties[name]).description,
  ]);
  const used = rows[0].map((_, at) => rows.some((row) => row[at]));
  const shown = (cells) => cells.filter((_, at) => used[at]);
  return table(shown([head, "Type or values", "Default", "Bounds", "What"]), rows.map(shown));
}
