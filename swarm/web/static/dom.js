// Build nodes without ever parsing text as markup, and bring what stands on the page up to date in place.

const SVG = "http://www.w3.org/2000/svg";
const handlers = new WeakMap();

// One listener per kind of event: what it runs is looked up, so that a redraw can change it.
function dispatch(event) {
  handlers.get(event.currentTarget)?.[event.type]?.(event);
}

export function handle(node, runs) {
  for (const kind of Object.keys(runs)) node.addEventListener(kind, dispatch);
  handlers.set(node, runs);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") handle(node, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...nodesOf(children));
  return node;
}

// Lists are flattened, what is not there is left out, everything else is text.
function nodesOf(children) {
  return children.flat(3).filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(String(child))));
}

export const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
export const byId = (id) => document.getElementById(id);
export const setText = (id, text) => {
  const node = byId(id);
  if (node.textContent !== text) node.textContent = text;
};

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null);
const isLike = (old, fresh) => old.nodeName === fresh.nodeName && keyOf(old) === keyOf(fresh);

// Make the children of a node those given. A node that is already there, by its data-key or by its place, is
// changed where it differs and nowhere else: focus, selection, scroll and animations go on.
export function update(parent, ...children) {
  const wanted = nodesOf(children), keyed = new Map();
  for (const old of parent.childNodes) if (keyOf(old) !== null) keyed.set(keyOf(old), old);
  const kept = new Set(wanted.map(keyOf).filter((key) => key !== null));
  let here = parent.firstChild;
  for (const fresh of wanted) {
    // What is on its way out does not push what stays behind it from its place.
    while (here && keyOf(here) !== null && !kept.has(keyOf(here))) here = dropped(here);
    const old = keyOf(fresh) === null ? here : keyed.get(keyOf(fresh));
    if (!old || !isLike(old, fresh)) {
      parent.insertBefore(fresh, here);
    } else {
      if (old === here) here = here.nextSibling;
      else parent.insertBefore(old, here);
      patch(old, fresh);
    }
  }
  while (here) here = dropped(here);
}

function dropped(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

function patch(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (handlers.has(fresh)) handle(old, handlers.get(fresh));
  if (old.hasAttribute("data-own")) return; // it is drawn by its own handlers
  // Styles are set when a node is made (an animation that has begun goes on).
  for (const { name, value } of fresh.attributes) if (name !== "style" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) if (name !== "style" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  update(old, ...fresh.childNodes);
}
