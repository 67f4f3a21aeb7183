// Shows the OpenAPI document of this listener. Everything that comes from the document is set as text, never as markup.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];

/** Makes an element; children are elements or texts. */
function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Words with `code` in them. */
function words(text) {
  const parts = String(text || "").split("`");
  return parts.map((part, at) => (at % 2 ? make("code", {}, part) : document.createTextNode(part)));
}

function paragraphs(text) {
  return String(text || "").split("\n\n").filter(Boolean).map((part) => make("p", {}, ...words(part)));
}

class Page {
  constructor(api) {
    this.api = api;
  }

  resolve(value) {
    let seen = 0;
    while (value && value.$ref && seen < 16) {
      value = value.$ref.slice(2).split("/").reduce((at, key) => at && at[key.replace(/~1/g, "/").replace(/~0/g, "~")], this.api);
      seen += 1;
    }
    return value || {};
  }

  nameOf(schema) {
    return schema && schema.$ref ? schema.$ref.split("/").pop() : "";
  }

  type(schema) {
    const name = this.nameOf(schema);
    const full = this.resolve(schema);
    const options = full.anyOf || full.oneOf;
    if (options) return options.map((one) => this.type(one)).join(" or ");
    if (full.enum) return full.enum.map((one) => JSON.stringify(one)).join(" | ");
    if (full.type === "array") return `list of ${this.type(full.items || {})}`;
    const type = Array.isArray(full.type) ? full.type.join(" or ") : full.type || "any";
    return (name || type) + (full.format ? ` (${full.format})` : "");
  }

  /** The properties of a schema, and of what is in them when opened. */
  properties(schema, depth) {
    let full = this.resolve(schema);
    if (full.type === "array") full = this.resolve(full.items);
    const options = (full.anyOf || full.oneOf || []).map((one) => this.resolve(one)).filter((one) => one.properties);
    if (!full.properties && options.length) full = options[0];
    if (!full.properties) return null;
    const required = new Set(full.required || []);
    const rows = Object.entries(full.properties).map(([name, property]) => {
      const described = property.description || this.resolve(property).description;
      const cell = make("td", {}, ...words(described));
      const fact = this.resolve(property);
      if (fact.default !== undefined) cell.append(make("div", { class: "type" }, `default ${JSON.stringify(fact.default)}`));
      if (depth < 4) {
        const inner = this.properties(property, depth + 1);
        if (inner) cell.append(make("details", {}, make("summary", {}, "Its parts"), inner));
      }
      return make(
        "tr", {},
        make("td", {}, make("code", {}, name), required.has(name) ? make("span", { class: "required" }, " required") : null),
        make("td", { class: "type" }, this.type(property)),
        cell,
      );
    });
    return make("table", {}, make("tbody", {}, ...rows));
  }

  content(content) {
    return Object.entries(content || {}).flatMap(([media, one]) => {
      const parts = [make("p", { class: "type" }, `${media}: ${this.type(one.schema)}`)];
      if (one.example !== undefined) {
        const text = typeof one.example === "string" ? one.example : JSON.stringify(one.example, null, 2);
        parts.push(make("pre", {}, text));
      }
      const table = this.properties(one.schema, 0);
      if (table) parts.push(make("details", {}, make("summary", {}, this.nameOf(one.schema) || "Schema"), table));
      return parts;
    });
  }

  curl(method, path, operation, parameters) {
    const lines = [`curl -X ${method.toUpperCase()} '${location.origin}${path}'`];
    if (!operation.security) lines.push("-H \"Authorization: Bearer $FOREBAY_ADMIN_TOKEN\"");
    for (const one of parameters) {
      if (one.in === "header" && one.required) lines.push(`-H '${one.name}: ${one.example || "*"}'`);
    }
    const body = operation.requestBody;
    if (body) {
      const [media, one] = Object.entries(body.content)[0];
      lines.push(`-H 'Content-Type: ${media}'`);
      const text = typeof one.example === "string" ? "@forebay.toml" : JSON.stringify(one.example);
      lines.push(typeof one.example === "string" ? `--data-binary ${text}` : `-d '${text.replace(/'/g, "'\\''")}'`);
    }
    return lines.join(" \\\n  ");
  }

  operation(path, method, operation) {
    const parameters = (operation.parameters || []).map((one) => this.resolve(one));
    const section = make(
      "section", { id: operation.operationId },
      make("h3", {}, operation.summary),
      make(
        "div", { class: "route" },
        make("span", { class: `method ${method}` }, method.toUpperCase()),
        make("span", {}, path),
        make("span", { class: "role" }, operation["x-forebay-role"] || "no token"),
      ),
      ...paragraphs(operation.description === `${operation.summary}.` ? "" : operation.description),
    );
    if (parameters.length) {
      const rows = parameters.map((one) => make(
        "tr", {},
        make("td", {}, make("code", {}, one.name), one.required ? make("span", { class: "required" }, " required") : null),
        make("td", { class: "type" }, `${one.in}, ${this.type(one.schema)}`),
        make("td", {}, ...words(one.description)),
      ));
      section.append(make("h4", {}, "Parameters"), make("table", {}, make("tbody", {}, ...rows)));
    }
    if (operation.requestBody) section.append(make("h4", {}, "Body"), ...this.content(operation.requestBody.content));
    section.append(make("h4", {}, "Call"), make("pre", {}, this.curl(method, path, operation, parameters)));
    section.append(make("h4", {}, "Answers"));
    const failures = [];
    for (const [status, answer] of Object.entries(operation.responses)) {
      if (status >= "400") {
        failures.push(make("tr", {}, make("td", {}, make("code", {}, status)), make("td", {}, ...words(answer.description))));
        continue;
      }
      section.append(make("p", {}, make("code", {}, status), " ", ...words(answer.description)), ...this.content(answer.content));
    }
    if (failures.length) {
      section.append(make("details", {}, make("summary", {}, "Problems"), make("table", {}, make("tbody", {}, ...failures))));
    }
    return section;
  }

  problems() {
    const rows = (this.api["x-forebay-problems"] || []).map((one) => make(
      "tr", { id: one.code },
      make("td", {}, make("code", {}, one.code)),
      make("td", {}, String(one.status)),
      make("td", {}, one.title, ". ", ...words(one.description)),
    ));
    return make("table", {}, make("tbody", {}, ...rows));
  }

  show() {
    const main = document.getElementById("main");
    const contents = document.getElementById("contents");
    main.replaceChildren(
      make("h1", {}, this.api.info.title),
      make("p", { class: "type" }, `Version ${this.api.info.version}, `, make("a", { href: "/admin/openapi.json" }, "openapi.json")),
      ...paragraphs(this.api.info.description),
    );
    for (const tag of this.api.tags) {
      const group = make("div", {}, make("h2", {}, tag.name));
      main.append(make("h2", { id: `tag-${tag.name}` }, tag.name), ...paragraphs(tag.description));
      for (const [path, item] of Object.entries(this.api.paths)) {
        for (const method of METHODS.filter((one) => item[one] && item[one].tags.includes(tag.name))) {
          const operation = item[method];
          main.append(this.operation(path, method, operation));
          group.append(make(
            "a", { href: `#${operation.operationId}`, "data-text": `${method} ${path} ${operation.summary}`.toLowerCase() },
            make("span", { class: `method ${method}` }, method.toUpperCase()), ` ${operation.summary}`,
          ));
        }
      }
      contents.append(group);
    }
    main.append(make("h2", { id: "problems" }, "problems"), this.problems());
    contents.append(make("div", {}, make("h2", {}, "errors"), make("a", { href: "#problems" }, "Problems")));
    document.getElementById("filter").addEventListener("input", (event) => {
      const wanted = event.target.value.toLowerCase();
      for (const link of contents.querySelectorAll("a[data-text]")) link.hidden = !link.dataset.text.includes(wanted);
    });
    // The target was not there when the page was loaded.
    if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
  }
}

fetch("/admin/openapi.json")
  .then((answer) => answer.json())
  .then((api) => new Page(api).show())
  .catch((error) => document.getElementById("main").replaceChildren(make("p", {}, `The document cannot be shown: ${error}`)));
