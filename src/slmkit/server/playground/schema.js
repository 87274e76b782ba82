// A JSON schema as people type it: what is wrong with it, in words, while they type.

import { byId, el } from "./dom.js";
import { jsonFault } from "./json-fault.js";

const TYPES = ["object", "array", "string", "number", "integer", "boolean", "null"];
const SCHEMAS_IN = ["properties", "$defs", "definitions", "patternProperties"];
const SCHEMA_AT = ["items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"];
const SCHEMAS_OF = ["anyOf", "oneOf", "allOf", "prefixItems"];
const DEEPEST = 64;

export const EXAMPLES = {
  "A person": {
    type: "object",
    properties: { name: { type: "string" }, age: { type: "integer", minimum: 0 }, languages: { type: "array", items: { type: "string" } } },
    required: ["name", "age"],
    additionalProperties: false,
  },
  "A list of steps": {
    type: "object",
    properties: {
      title: { type: "string" },
      steps: { type: "array", items: { type: "object", properties: { what: { type: "string" }, minutes: { type: "integer" } }, required: ["what"], additionalProperties: false } },
    },
    required: ["title", "steps"],
    additionalProperties: false,
  },
  "A verdict": {
    type: "object",
    properties: { mood: { enum: ["good", "bad", "mixed"] }, reason: { type: "string" } },
    required: ["mood", "reason"],
    additionalProperties: false,
  },
};

// { schema } or { fault: in words }.
export function readSchema(text) {
  if (text.trim() === "") return { fault: "Write a schema, or choose an example." };
  const fault = jsonFault(text);
  if (fault) return { fault: `This is not JSON yet: ${fault}.` };
  const schema = JSON.parse(text);
  const wrong = faultIn(schema, "the schema", 0);
  return wrong ? { fault: wrong } : { schema };
}

function faultIn(schema, place, depth) {
  if (typeof schema === "boolean" && depth > 0) return null;
  if (typeof schema !== "object" || schema === null || Array.isArray(schema)) return `${capital(place)} must be an object in braces.`;
  if (depth > DEEPEST) return `${capital(place)} is nested more than ${DEEPEST} deep; make it flatter.`;
  const { type, required } = schema;
  const unknown = [type].flat().find((name) => type !== undefined && !TYPES.includes(name));
  if (unknown !== undefined) return `${capital(place)} has the type ${JSON.stringify(unknown)}; use one of ${TYPES.join(", ")}.`;
  if (required !== undefined && !(Array.isArray(required) && required.every((name) => typeof name === "string"))) {
    return `“required” of ${place} must be a list of names.`;
  }
  if (schema.enum !== undefined && !(Array.isArray(schema.enum) && schema.enum.length)) return `“enum” of ${place} must be a list with at least one value.`;
  for (const key of SCHEMAS_IN) {
    if (schema[key] === undefined) continue;
    if (typeof schema[key] !== "object" || schema[key] === null || Array.isArray(schema[key])) return `“${key}” of ${place} must be an object in braces.`;
    for (const [name, inner] of Object.entries(schema[key])) {
      const wrong = faultIn(inner, `“${name}”`, depth + 1);
      if (wrong) return wrong;
    }
  }
  for (const key of SCHEMAS_OF) {
    if (schema[key] === undefined) continue;
    if (!Array.isArray(schema[key]) || schema[key].length === 0) return `“${key}” of ${place} must be a list of schemas.`;
    for (const inner of schema[key]) {
      const wrong = faultIn(inner, `a schema in “${key}”`, depth + 1);
      if (wrong) return wrong;
    }
  }
  for (const key of SCHEMA_AT) {
    const wrong = schema[key] === undefined ? null : faultIn(schema[key], `“${key}” of ${place}`, depth + 1);
    if (wrong) return wrong;
  }
  return null;
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

// The editor in the panel; changed() is called when a person changed it.
export function schemaEditor(changed) {
  const field = byId("schema");
  const verdict = byId("schema-verdict");
  const check = () => {
    const { fault } = readSchema(field.value);
    verdict.textContent = fault ?? "A valid schema.";
    verdict.classList.toggle("fault", Boolean(fault));
    field.setAttribute("aria-invalid", String(Boolean(fault)));
    return !fault;
  };
  field.addEventListener("input", () => (check(), changed()));
  const choice = byId("schema-example");
  choice.append(...Object.keys(EXAMPLES).map((name) => el("option", {}, name)));
  choice.addEventListener("change", () => {
    if (!Object.hasOwn(EXAMPLES, choice.value)) return;
    field.value = JSON.stringify(EXAMPLES[choice.value], null, 2);
    choice.selectedIndex = 0;
    check();
    changed();
  });
  check();
  return {
    text: () => field.value,
    fill: (text) => ((field.value = text), field.setSelectionRange(0, 0), check()), // read from its beginning
    valid: check,
    // What the API is asked for, or null with the field in focus.
    format() {
      const { schema } = readSchema(field.value);
      if (!schema) return field.focus(), null;
      return { type: "json_schema", json_schema: { name: "answer", schema } };
    },
    blame(words) {
      verdict.textContent = words;
      verdict.classList.add("fault");
      field.setAttribute("aria-invalid", "true");
    },
  };
}

// The answer for the eye: laid out if it is whole JSON, else as it came, with why.
export function laidOut(text) {
  try {
    return { text: JSON.stringify(JSON.parse(text), null, 2), note: "" };
  } catch {
    return { text, note: "This is not whole JSON: the answer was cut off. Allow it more tokens." };
  }
}
