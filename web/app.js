// @ts-check
// The live page. Everything shown comes from the API and is put in as text, never as markup.

import { ANSWERS, DROPS, ENDS, PORT_CLASSES, STATES, say } from "./words.js";

const API = "api/v1";
const EVENT_NAMES = [
  "host.appeared", "host.gone", "host.named", "host.policy",
  "mapping.opened", "mapping.renewed", "mapping.closed", "mapping.requested", "mapping.denied",
  "pinhole.opened", "pinhole.renewed", "pinhole.closed",
  "prefix.changed", "prefix.withdrawn", "wan.changed",
];
const DESCRIPTION_SHOWN = 120;
const EVENTS_SHOWN = 200;
const SESSIONS_EVERY_MS = 2000;
const SESSIONS_SHOWN = 200;

/** @param {string} id */
const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/**
 * Makes an element of a name, a class and children that are text or elements.
 * @param {string} name
 * @param {string} className
 * @param {...(string | Node)} children
 */
function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/**
 * @param {string} label
 * @param {...(string | Node)} children
 */
function cell(label, ...children) {
  const made = element("td", "", element("span", "", ...children));
  made.dataset.label = label;
  return made;
}

/**
 * Replaces the rows of a table; says so when there are none.
 * @param {string} id
 * @param {Node[]} rows
 * @param {number} columns
 * @param {string} none
 */
function fill(id, rows, columns, none) {
  if (rows.length === 0) {
    const empty = /** @type {HTMLTableCellElement} */ (element("td", "none", none));
    empty.colSpan = columns;
    rows = [element("tr", "", empty)];
  }
  byId(id).replaceChildren(...rows);
}

/**
 * What a device says of itself: not longer than a line or two, and writing backwards within itself.
 * @param {string} text
 */
function quoted(text) {
  const shown = text.length > DESCRIPTION_SHOWN ? `${text.slice(0, DESCRIPTION_SHOWN)}…` : text;
  const made = element("bdi", "", shown);
  made.title = text;
  return made;
}

/** @param {string} path */
async function read(path) {
  const response = await fetch(`${API}/${path}`, { headers: { accept: "application/json" } });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
}

/** @param {string} path */
async function readAll(path) {
  const items = [];
  let cursor = "";
  do {
    const page = await read(`${path}?limit=1000${cursor}`);
    items.push(...page.items);
    cursor = page.next ? `&cursor=${encodeURIComponent(page.next)}` : "";
  } while (cursor);
  return items;
}

/** @param {number} seconds */
function duration(seconds) {
  const units = /** @type {const} */ ([["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]);
  for (const [index, [name, size]] of units.entries()) {
    if (seconds >= size || size === 1) {
      const next = units[index + 1];
      const rest = next ? Math.floor((seconds % size) / next[1]) : 0;
      const first = `${Math.floor(seconds / size)} ${name}`;
      return next && rest ? `${first} ${rest} ${next[0]}` : first;
    }
  }
  return "";
}

/** @param {number} bytes */
function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${unit ? bytes.toFixed(1) : bytes} ${units[unit]}`;
}

/** @param {any} gateway one that stands in front of this one */
function gatewayRow(gateway) {
  const words = [gateway.kind ?? "has not answered", `at ${gateway.address}`];
  if (gateway.external_address) words.push(`outside ${gateway.external_address}`);
  if (gateway.carrier_nat) words.push("the provider's own translator stands in between (carrier NAT)");
  if (gateway.kind) words.push(`${gateway.open} ports open, ${gateway.refused} refused, ${gateway.waiting} waiting`);
  return ["Gateway in front", words.join(", ")];
}

async function showStatus() {
  const none = { gateways: [] };
  const [status, upstream] = await Promise.all([read("status"), read("upstream").catch(() => none)]);
  const failed = status.rooms.filter((/** @type {any} */ room) => room.state === "failed");
  const rows = [
    ["WAN", `${status.wan.interface ?? "none"} ${status.wan.addresses.join(" ")}`],
    ["Delegated prefix", status.wan.delegated ?? "none yet"],
    ["Devices appear in", status.wan.nsp ?? "none yet"],
    ["Zone", `${status.zone.name} (serial ${status.zone.serial})`],
    ["LAN", `${status.lan.interface ?? "none"} ${status.lan.subnet}, gateway ${status.lan.gateway}`],
    ["Devices see remotes as", status.lan.pool],
    ...upstream.gateways.map(gatewayRow),
    ["Portico", `${status.version}, up ${duration(status.uptime_s)}`],
  ];
  const shown = rows.map(([name, value]) =>
    element("div", "", element("dt", "", name), element("dd", "", value)));
  byId("status").replaceChildren(...shown);
  const notice = byId("notice");
  const words = status.observing
    ? "Portico observes: no interface has been given a role in the configuration."
    : failed.map((/** @type {any} */ room) => `${room.room}: ${room.error}`).join("; ");
  notice.textContent = words;
  notice.hidden = words === "";
}

/** @type {any[]} */
let hosts = [];

async function showHosts() {
  hosts = await readAll("hosts");
  drawWaiting();
  drawHosts();
}

/** @param {any} mapping */
const route = (mapping) => mapping.external_port === mapping.internal_port
  ? `${mapping.external_port}` : `${mapping.external_port} to ${mapping.internal_port}`;

function drawWaiting() {
  const waiting = hosts.flatMap((host) =>
    host.waiting.map((/** @type {any} */ request) => ({ host, request })));
  const rows = waiting.map(({ host, request }) => {
    const said = request.description ? [", “", quoted(request.description), "”"] : [];
    return element("tr", "",
      cell("Device", host.fqdn),
      cell("Wants to open", `${request.protocol} ${route(request)}`,
        element("span", "soft", ...toPinhole(request), ...admitted(request))),
      cell("Asked by", request.requester, element("span", "soft", ...said)),
      cell("To decide", element("code", "", `portico map approve ${request.id} --for 1h`), " or ",
        element("code", "", `portico map deny ${request.id}`)));
  });
  fill("waiting", rows, 4, "nothing waits");
}

/**
 * The address of a port that leads past the translator.
 * @param {any} request
 */
const toPinhole = (request) => request.pinhole ? [` at its own address ${request.pinhole}`] : [];

/**
 * Whom a port admits, if not everybody.
 * @param {any} mapping
 */
const admitted = (mapping) => mapping.filters.length ? [` for ${mapping.filters.join(", ")}`] : [];

/** @param {any} policy */
function mayOpen(policy) {
  const ports = say(PORT_CLASSES, policy.ports);
  const words = policy.access === "deny" ? "nothing"
    : policy.access === "ask" ? `${ports}; other ports if you approve` : `${ports}, nothing else`;
  const until = policy.expires_in_s === null ? "" : ` for ${duration(policy.expires_in_s)}`;
  return cell("May open", words, element("span", "soft", policy.own ? ` (its own policy${until})` : ""));
}

function drawHosts() {
  const wanted = /** @type {HTMLInputElement} */ (byId("search")).value.toLowerCase();
  const fits = hosts.filter((host) =>
    [host.fqdn, host.mac, host.ipv4, host.ipv6 ?? ""].some((text) => text.includes(wanted)));
  const rows = fits.map((host) => {
    const ports = host.mappings.map((/** @type {any} */ mapping) => {
      const until = mapping.expires_in_s === null ? "until closed" : duration(mapping.expires_in_s);
      const by = ` by ${mapping.requester}, ${until}${admitted(mapping).join("")}`;
      const words = mapping.description ? [`${by}, “`, quoted(mapping.description), "”"] : [by];
      return element("li", "", `${mapping.protocol} ${route(mapping)}`, element("span", "soft", ...words));
    });
    const away = host.here ? "" : " (away)";
    return element("tr", "",
      cell("Name", host.fqdn, element("span", "soft", away)),
      cell("IPv4", element("code", "", host.ipv4)),
      cell("IPv6", element("code", "", host.ipv6 ?? "none")),
      cell("MAC", element("code", "", host.mac)),
      mayOpen(host.policy),
      cell("Open ports", ports.length ? element("ul", "", ...ports) : element("span", "none", "none")));
  });
  fill("hosts", rows, 6, wanted ? "no device fits" : "no device has joined yet");
}

/** @param {string} id */
const chosen = (id) => /** @type {HTMLInputElement | HTMLSelectElement} */ (byId(id)).value.trim();

/** What is typed into the search means one thing by its form. */
function sessionChoice() {
  const text = chosen("session-search");
  const choice = new URLSearchParams({ limit: String(SESSIONS_SHOWN) });
  for (const name of ["protocol", "state"]) {
    if (chosen(`session-${name}`)) choice.set(name, chosen(`session-${name}`));
  }
  if (!text) return choice;
  const ipv4 = /^\d+\.\d+\.\d+\.\d+(:\d+)?$/.test(text);
  const ours = hosts.some((host) => host.ipv4 === text || host.mac === text.toLowerCase());
  if (/^\d+$/.test(text)) choice.set("external_port", text);
  else if (ipv4 && !ours) choice.set("pool", text);
  else if (text.includes(":") && !ours) choice.set("remote", text.replace(/^\[(.*)\].*$/, "$1"));
  else choice.set("server", text.toLowerCase());
  return choice;
}

let sessionReadings = 0;
async function showSessions() {
  sessionReadings += 1;
  const reading = sessionReadings;
  const response = await fetch(`${API}/sessions?${sessionChoice()}`);
  const page = await response.json();
  if (reading !== sessionReadings) return; // somebody typed on
  if (!response.ok) {
    fill("sessions", [], 7, page.detail ?? `the gateway answered ${response.status}`);
    byId("session-note").textContent = "";
    return;
  }
  const names = new Map(hosts.map((host) => [host.ipv4, host.name]));
  const rows = page.items.map((/** @type {any} */ session) => {
    const { remote, server, pool } = session;
    return element("tr", "",
      cell("Remote", element("code", "", `[${remote.address}]:${remote.port}`)),
      cell("Device", `${names.get(server.address) ?? server.address} ${session.protocol} ${server.port}`),
      cell("Seen by it as", element("code", "", `${pool.address}:${pool.port}`)),
      cell("State", `${say(STATES, session.state)}, ${duration(session.expires_in_s)} left`),
      cell("In", `${session.packets_in} pkt, ${size(session.bytes_in)}`),
      cell("Out", `${session.packets_out} pkt, ${size(session.bytes_out)}`),
      cell("Id", element("code", "", session.id)));
  });
  const any = chosen("session-search") || chosen("session-protocol") || chosen("session-state");
  fill("sessions", rows, 7, any ? "no session fits" : "nobody is connected");
  byId("session-note").textContent = page.next
    ? `The first ${page.items.length} are shown. “portico session list” shows all.`
    : page.items.length ? "“portico session end” and an id ends one." : "";
}

/** @type {Map<string, number>} */
let counted = new Map();

async function showRefused() {
  const kinds = /** @type {const} */ ([
    ["drops_total", "did not pass", DROPS],
    ["answers_total", "was answered", ANSWERS],
    ["sessions_ended_total", "session ended", ENDS],
  ]);
  const counters = await readAll("counters");
  const ours = counters.filter((it) => it.room === "translator" && it.value > 0);
  const rows = kinds.flatMap(([name, what, words]) =>
    ours.filter((it) => it.name === name).sort((a, b) => b.value - a.value).map((it) => {
      const before = counted.get(`${name} ${it.reason}`);
      const more = it.value - (before ?? (counted.size ? 0 : it.value));
      return element("tr", "",
        cell("What", what),
        cell("Why", say(words, it.reason)),
        cell("How many", String(it.value)),
        cell("Just now", element("span", "soft", more > 0 ? `+${more}` : "")));
    }));
  counted = new Map(ours.map((it) => [`${it.name} ${it.reason}`, it.value]));
  fill("refused", rows, 4, "everything has passed");
}

async function showPrefixes() {
  const prefixes = await readAll("prefixes");
  const rows = prefixes.map((prefix) => {
    const end = prefix.valid_for_s === null ? "" : `, ends in ${duration(prefix.valid_for_s)}`;
    const state = `${prefix.preferred ? "in DNS" : "still accepted"}${end}`;
    return element("tr", "",
      cell("Delegated", element("code", "", prefix.delegated)),
      cell("Devices appear in", element("code", "", prefix.nsp)),
      cell("State", element("span", prefix.preferred ? "good" : "soft", state)));
  });
  fill("prefixes", rows, 3, "no prefix is delegated yet");
}

/** @param {string} name @param {any} data */
function describe(name, data) {
  switch (name.split(".")[0]) {
    case "host": return `${data.fqdn} ${data.ipv4}`;
    case "mapping": {
      const mapping = data.mapping ?? data;
      const why = data.reason ? `, ${data.reason}` : "";
      return `${mapping.name} ${mapping.protocol} ${mapping.external_port} by ${mapping.requester}${why}`;
    }
    case "pinhole": return `[${data.addr}] ${data.protocol} ${data.port} by ${data.requester}`;
    case "prefix": return `${data.delegated}${data.preferred ? " preferred" : ""}`;
    default: return (data.addresses ?? []).join(" ");
  }
}

/** @param {string} name @param {any} data */
function addEvent(name, data) {
  const list = byId("events");
  const time = new Date().toLocaleTimeString();
  list.prepend(element("li", "", element("span", "soft", `${time} `), `${name} ${describe(name, data)}`));
  while (list.children.length > EVENTS_SHOWN) list.lastElementChild?.remove();
}

/** @param {string} text @param {boolean} good */
function connection(text, good) {
  const shown = byId("connection");
  shown.textContent = text;
  shown.className = good ? "good" : "bad";
}

// several events in a row cost one reading
let drawing = false;
let again = false;
async function showAll() {
  if (drawing) {
    again = true;
    return;
  }
  drawing = true;
  try {
    do {
      again = false;
      await Promise.all([showStatus(), showHosts(), showPrefixes()]);
      await Promise.all([showSessions(), showRefused()]);
    } while (again);
    connection("live", true);
  } catch (error) {
    connection(`not connected: ${error}`, false);
  } finally {
    drawing = false;
  }
}

function listen() {
  const source = new EventSource(`${API}/events`);
  for (const name of EVENT_NAMES) {
    source.addEventListener(name, (event) => {
      addEvent(name, JSON.parse(event.data));
      showAll();
    });
  }
  source.addEventListener("resync", showAll);
  source.addEventListener("open", showAll);
  source.addEventListener("error", () => connection("not connected, trying again", false));
}

byId("search").addEventListener("input", drawHosts);
for (const [name, words] of Object.entries(STATES)) {
  const option = /** @type {HTMLOptionElement} */ (element("option", "", words));
  option.value = name;
  byId("session-state").append(option);
}
for (const id of ["session-search", "session-protocol", "session-state"]) {
  byId(id).addEventListener("input", () => showSessions().catch(() => {}));
}
setInterval(() => {
  if (!document.hidden && !drawing) Promise.all([showSessions(), showRefused()]).catch(() => {});
}, SESSIONS_EVERY_MS);
showAll();
listen();
