"use strict";

/*
 * Shows insights.json and keeps it current. All data are untrusted text: they reach the document by
 * textContent only, and plotly (which reads a little markup) through `label`. Nothing is calculated
 * here: money and counts are shown digit by digit as they came, and become numbers only as positions
 * in a chart.
 */

const POLL_MS = 5000;
const TIMEOUT_MS = 20000;
const SERVED = location.protocol !== "file:";
const VIEWS = [
  "summary", "engagement_mix", "favorites", "offers", "cash_back_monthly", "cash_back_daily",
  "losses", "losses_by_reason", "break_even", "break_even_by_programme", "freshness", "rejected",
];
const LEVELS = ["LOW", "MEDIUM", "HIGH"];
const SYMBOLS = { above: "circle", below: "circle-open", never: "x-thin-open" };
const SPEND_QUANTILE = 0.98; // the few who spend more would squeeze everybody else into a corner
const REASONS = {
  never: "Cash back takes all of the interchange",
  below_break_even: "Spends too little to cover the card's cost",
  no_spend: "Does not use the card",
  refunds: "Refunds left no spend",
};
const NONE = "–";

const NARROW = matchMedia("(max-width: 640px)");
const DARK = matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;
const byId = (id) => document.getElementById(id);
let current = null; // the last good data

/* ---- Values as text ---- */

/** "-1234567.80" as "−1,234,567.80", exactly; anything that is no number as it is. */
function grouped(value) {
  if (value === null || value === undefined) return NONE;
  const parts = /^(-?)(\d+)(\.\d+)?$/.exec(String(value));
  if (!parts) return String(value);
  const [, sign, whole, fraction = ""] = parts;
  return (sign && "−") + whole.replace(/\B(?=(\d{3})+$)/g, ",") + fraction;
}

function usd(value) {
  const amount = grouped(value);
  if (amount === NONE) return NONE;
  return amount.startsWith("−") ? `−$${amount.slice(1)}` : `$${amount}`;
}

const percent = (value) => (grouped(value) === NONE ? NONE : `${grouped(value)} %`);
const isNegative = (value) => /^-.*[1-9]/.test(String(value));
const plural = (value, one, many) => `${grouped(value)} ${String(value) === "1" ? one : many}`;
const plain = (value) => (value === null || value === undefined ? NONE : String(value));

/** A seed's key as a name: "travel_plus" as "Travel plus". */
function named(value) {
  const text = plain(value).replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

const INSTANT = new Intl.DateTimeFormat("en-GB", {
  dateStyle: "medium", timeStyle: "medium", timeZone: "UTC",
});
const MONTH = new Intl.DateTimeFormat("en-GB", { month: "short", year: "numeric", timeZone: "UTC" });
const DAY = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeZone: "UTC" });

function dated(format, value, suffix = "") {
  const time = Date.parse(value);
  return Number.isNaN(time) ? plain(value) : format.format(time) + suffix;
}

const instant = (value) => dated(INSTANT, value, " UTC");
const shortInstant = (value) => plain(value).slice(0, 19).replace("T", " ");
const month = (value) => dated(MONTH, value);
const day = (value) => dated(DAY, value);
const because = (value) => REASONS[value] ?? plain(value);

function duration(value) {
  if (value === null || value === undefined) return NONE;
  const seconds = Math.round(Number(value));
  if (Number.isNaN(seconds)) return String(value);
  if (seconds < 120) return `${grouped(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${grouped(Math.floor(seconds / 86400))} days`;
}

function age(value) {
  const seconds = (Date.now() - Date.parse(value)) / 1000;
  if (Number.isNaN(seconds)) return "";
  return seconds < -1 ? `${duration(-seconds)} ahead of now` : `${duration(Math.max(seconds, 0))} ago`;
}

/** Text for plotly, which would read tags and entities; `limit` keeps axes readable. */
function label(value, limit = 60) {
  const text = plain(value);
  const short = text.length > limit ? `${text.slice(0, limit - 1)}…` : text;
  return short.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/* ---- Elements ---- */

function element(tag, className, ...children) {
  const created = document.createElement(tag);
  if (className) created.className = className;
  created.append(...children); // strings become text nodes
  return created;
}

function write(id, text, bad = false) {
  const target = byId(id);
  if (target.textContent !== text) target.textContent = text; // said aloud again only when new
  target.classList.toggle("bad", bad);
}

/** The age of an instant; `tick` keeps it true. */
function since(value) {
  const created = element("span", "since", age(value));
  created.dataset.since = value;
  return created;
}

function tick() {
  for (const node of document.querySelectorAll("[data-since]")) node.textContent = age(node.dataset.since);
}

/** Column kinds: how a value is written, and the cell's class. */
const KINDS = {
  text: [plain, ""],
  name: [named, ""],
  long: [plain, "long"],
  count: [grouped, "number"],
  usd: [usd, "number"],
  percent: [percent, "number"],
  month: [month, ""],
  day: [day, ""],
  reason: [because, ""],
  duration: [duration, "number"],
  instant: [shortInstant, "instant"],
};

function cell(tag, row, [, name, kind]) {
  const [format, className] = KINDS[kind];
  const created = element(tag, className, format(row[name]));
  if (kind === "usd") created.classList.toggle("bad", isNegative(row[name]));
  if (kind === "instant" && row[name]) created.append(since(row[name]));
  return created;
}

/** Fills a container with a table; `columns` are [title, name, kind], the first names the row. */
function table(id, caption, columns, rows, empty) {
  const container = byId(id);
  if (!rows.length) {
    container.replaceChildren(element("p", "empty", empty));
    return;
  }
  const heads = columns.map(([title, , kind]) => {
    const head = element("th", KINDS[kind][1], title);
    head.scope = "col";
    return head;
  });
  const body = rows.map((row) => {
    const head = cell("th", row, columns[0]);
    head.scope = "row";
    return element("tr", "", head, ...columns.slice(1).map((column) => cell("td", row, column)));
  });
  // A wide table scrolls sideways: reachable by keyboard, and named.
  container.tabIndex = 0;
  container.setAttribute("role", "region");
  container.setAttribute("aria-label", caption);
  const { scrollTop, scrollLeft } = container;
  container.replaceChildren(element("table", "", element("caption", "", caption),
    element("thead", "", element("tr", "", ...heads)), element("tbody", "", ...body)));
  container.scrollTo(scrollLeft, scrollTop);
}

/* ---- Charts ---- */

const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();

/** An axis in the page's colours; dragging zooms only where `fixedrange` is switched off. */
function axis(settings) {
  return {
    fixedrange: true, gridcolor: colour("grid"), linecolor: colour("line"), automargin: true,
    zerolinecolor: colour("muted"), tickfont: { color: colour("muted") }, ...settings,
  };
}

function chart(id, description, traces, { height, ...layout }, empty) {
  const container = byId(id);
  container.setAttribute("role", "img");
  container.setAttribute("aria-label", traces.length ? description : empty);
  if (!traces.length || !window.Plotly) {
    if (window.Plotly) Plotly.purge(container);
    const words = traces.length ? "The chart library is missing: see the figures as a table." : empty;
    container.replaceChildren(element("p", "empty", words));
    container.style.height = "";
    return;
  }
  // The container's size rules, because plotly forgets a size of its own when the window changes.
  container.style.height = `${height}px`;
  container.style.width = root.dataset.print === undefined ? "" : "660px"; // A4 between its margins
  if (container.querySelector(".empty")) container.replaceChildren();
  const font = { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("ink") };
  Plotly.react(container, traces, {
    font, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: false,
    margin: { l: 8, r: 16, t: 8, b: 8 }, showlegend: false, uirevision: "keep",
    hoverlabel: { bgcolor: colour("surface"), bordercolor: colour("line"), font, align: "left" },
    autosize: true,
    ...layout,
  }, { displayModeBar: false, responsive: true, typesetMath: false });
}

/** Horizontal bars of share_pct, top down; `name`, `text`, `fill` and `hover` turn a row into words. */
function bars(id, description, rows, { name, text, fill, hover, height }, empty) {
  // The position is an index, so that names can be any text (also equal ones, also numbers).
  const positions = rows.map((_, index) => index);
  const x = rows.map((row) => Number(row.share_pct));
  const room = (NARROW.matches ? 1.9 : 1.6) * Math.max(...x, 0.01); // the text stands beside its bar
  const trace = {
    type: "bar", orientation: "h", x, y: positions, width: 0.66, marker: { color: rows.map(fill) },
    text: rows.map((row) => label(text(row))), textposition: "outside", cliponaxis: false,
    hoverinfo: "text", hovertext: rows.map((row) => label(hover(row), 200)),
  };
  chart(id, `${description} ${rows.map(hover).join("; ")}.`, rows.length ? [trace] : [], {
    height,
    xaxis: axis({ visible: false, range: [0, room] }),
    yaxis: axis({
      autorange: "reversed", tickvals: positions, ticktext: rows.map((row) => label(name(row), 26)),
      showgrid: false, zeroline: false, tickfont: { color: colour("ink") }, ticksuffix: " ",
    }),
  }, empty);
}

function drawEngagement(rows) {
  const order = (row) => LEVELS.indexOf(row.engagement_level);
  const sorted = [...rows].sort((a, b) => order(a) - order(b));
  const empty = "No customer has an engagement level yet.";
  bars("engagement-chart", "Share of customers by engagement level.", sorted, {
    name: (row) => row.engagement_level,
    text: (row) => `${percent(row.share_pct)} · ${grouped(row.customers)}`,
    fill: (row) => colour(`level-${order(row) + 1}`) || colour("muted"),
    hover: (row) => `${plain(row.engagement_level)}: ${percent(row.share_pct)}, `
      + plural(row.customers, "customer", "customers"),
    height: 200,
  }, empty);
  table("engagement-table", "Customers by engagement level", [
    ["Level", "engagement_level", "text"], ["Customers", "customers", "count"],
    ["Share", "share_pct", "percent"],
  ], sorted, empty);
}

function drawFavorites(rows) {
  const sorted = [...rows].sort((a, b) => Number(b.share_pct) - Number(a.share_pct));
  const empty = "No preference has been seen yet.";
  bars("favorites-chart", "Share of spend by category.", sorted, {
    name: (row) => named(row.category),
    text: (row) => [percent(row.share_pct), grouped(row.customers), usd(row.spend_usd)]
      .slice(0, NARROW.matches ? 2 : 3).join(" · "),
    fill: () => colour("income"),
    hover: (row) => `${named(row.category)}: ${percent(row.share_pct)} of spend, ${usd(row.spend_usd)}, `
      + `${plural(row.customers, "customer", "customers")}, ${plural(row.events, "event", "events")}`,
    height: Math.max(200, 32 * rows.length + 20),
  }, empty);
  table("favorites-table", "Favourites by category", [
    ["Category", "category", "name"], ["Customers", "customers", "count"],
    ["Events", "events", "count"], ["Spend", "spend_usd", "usd"], ["Share", "share_pct", "percent"],
  ], sorted, empty);
}

function drawOffers(rows) {
  // Offers first, then loans, whose values are amounts; in each the most wanted first.
  const sorted = [...rows].sort((a, b) => (
    plain(b.kind).localeCompare(plain(a.kind)) || Number(b.customers) - Number(a.customers)));
  table("offers-table", "Offers and loans that customers get today", [
    ["Offer", "title", "text"], ["Kind", "kind", "text"], ["Customers", "customers", "count"],
    ["First choice of", "first_choices", "count"], ["Value", "value_usd", "usd"],
    ["Newest reason", "newest_reason", "long"],
  ], sorted, "No customer gets an offer today.");
}

function drawMonthly(rows) {
  const sorted = [...rows].sort((a, b) => (plain(a.month) < plain(b.month) ? -1 : 1));
  const title = (row) => month(row.month) + (row.is_over === false ? ", so far" : "");
  const x = sorted.map((row) => label(title(row)));
  const trace = (name, column, sign, settings) => ({
    name, x, y: sorted.map((row) => sign * Number(row[column])), hoverinfo: "text",
    text: sorted.map((row) => `${label(title(row))}<br>${name} ${label(usd(row[column]))}`),
    textposition: "none", ...settings,
  });
  const bar = (name) => ({ type: "bar", marker: { color: colour(name) } });
  const traces = [
    trace("Interchange", "interchange_usd", 1, bar("income")),
    trace("Cash back", "cash_back_usd", 1, bar("cost")),
    trace("Loss", "loss_usd", -1, bar("bad")),
    trace("Net", "net_usd", 1, {
      type: "scatter", mode: "lines+markers", line: { color: colour("net"), width: 2.5 },
      marker: { color: colour("net"), size: 7 },
    }),
  ];
  const last = sorted.at(-1);
  const empty = "No card transaction has earned cash back yet.";
  chart("monthly-chart", last ? `Interchange, cash back, net and loss per month. In ${title(last)}: `
    + `interchange ${usd(last.interchange_usd)}, cash back ${usd(last.cash_back_usd)}, `
    + `net ${usd(last.net_usd)}, loss ${usd(last.loss_usd)}.` : empty,
  rows.length ? traces : [], {
    height: 340, barmode: "group", bargap: 0.3, showlegend: true,
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    xaxis: axis({ type: "category", showgrid: false }),
    yaxis: axis({ tickformat: "$,.0f", zerolinewidth: 1.5 }),
  }, empty);
  table("monthly-table", "Cash back per month", [
    ["Month", "title", "text"], ["Interchange", "interchange_usd", "usd"],
    ["Monthly fees", "monthly_fee_usd", "usd"], ["Cash back", "cash_back_usd", "usd"],
    ["Servicing cost", "servicing_cost_usd", "usd"], ["Net", "net_usd", "usd"],
    ["Loss", "loss_usd", "usd"], ["Customers", "customers", "count"],
    ["In loss", "customers_in_loss", "count"],
  ], [...sorted].reverse().map((row) => ({ ...row, title: title(row) })), empty);
}

function drawDaily(rows) {
  const sorted = [...rows].sort((a, b) => (plain(a.date_day) < plain(b.date_day) ? -1 : 1));
  const trace = (name, column, settings) => ({
    name, x: sorted.map((row) => plain(row.date_day)), y: sorted.map((row) => Number(row[column])),
    hoverinfo: "text", textposition: "none", ...settings,
    text: sorted.map((row) => `${label(day(row.date_day))}<br>${name} ${label(usd(row[column]))}`),
  });
  const traces = [
    trace("Net of the day", "net_usd", {
      type: "bar", marker: { color: sorted.map((row) => colour(isNegative(row.net_usd) ? "bad" : "income")) },
    }),
    trace("Net to date", "net_to_date_usd", {
      type: "scatter", mode: "lines", line: { color: colour("net"), width: 2 },
    }),
  ];
  const last = sorted.at(-1);
  const empty = "No day has moved the cash-back result yet.";
  chart("daily-chart", last ? `Net of cash back per day, and to date. Up to ${day(last.date_day)}: `
    + `${usd(last.net_to_date_usd)} to date, ${usd(last.net_usd)} on that day.` : empty,
  rows.length ? traces : [], {
    height: 300, bargap: 0.1, showlegend: true,
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    xaxis: axis({ type: "date", showgrid: false }),
    yaxis: axis({ tickformat: "$,.0f", zerolinewidth: 1.5 }),
  }, empty);
  table("daily-table", "Cash back per day", [
    ["Day", "date_day", "day"], ["Customers", "customers", "count"],
    ["Interchange", "interchange_usd", "usd"], ["Fees", "monthly_fee_usd", "usd"],
    ["Cash back", "cash_back_usd", "usd"], ["Servicing cost", "servicing_cost_usd", "usd"],
    ["Net", "net_usd", "usd"], ["Net to date", "net_to_date_usd", "usd"],
  ], [...sorted].reverse(), empty);
}

function drawLosses(losses, reasons) {
  const mostFirst = (rows) => [...rows].sort((a, b) => Number(b.loss_usd) - Number(a.loss_usd));
  const empty = "No customer lost in the newest month that is over.";
  table("reasons-table", "Customers who lose, by reason", [
    ["Reason", "reason", "reason"], ["Customers", "customers", "count"],
    ["First since", "losing_from_month", "month"], ["Loss since then", "loss_usd", "usd"],
  ], mostFirst(reasons), empty);
  table("losses-table", "Customers who lose most", [
    ["Customer", "customer_id", "text"], ["Programme", "programme", "name"],
    ["Losing since", "losing_from_month", "month"], ["Months", "months", "count"],
    ["Spend", "spend_usd", "usd"], ["Loss", "loss_usd", "usd"], ["Why", "explanation", "long"],
  ], mostFirst(losses), empty);
}

/** The dashed line and the label of each programme's threshold that lies within the chart. */
function thresholds(programmes, colours, right) {
  const known = programmes.filter((row) => row.median_break_even_spend_usd !== null)
    .sort((a, b) => Number(a.median_break_even_spend_usd) - Number(b.median_break_even_spend_usd));
  const shapes = [];
  const annotations = known.map((row, index) => {
    const at = Number(row.median_break_even_spend_usd);
    const outside = at > right; // drawn as a word only: it must not squeeze the points
    const line = { color: colours.get(row.programme), width: 1.5, dash: "dash" };
    const lift = 6 + 17 * (known.length - 1 - index);
    const common = { type: "line", x0: at, x1: at, yref: "paper", line };
    if (!outside) {
      shapes.push({ ...common, y0: 0, y1: 1 });
      shapes.push({ ...common, ysizemode: "pixel", yanchor: 1, y0: 0, y1: lift + 8 });
    }
    const text = `${label(named(row.programme), 24)}: ${label(usd(row.median_break_even_spend_usd))}`;
    return {
      x: outside ? right : at, yref: "paper", y: 1, yshift: lift, yanchor: "bottom", showarrow: false,
      xanchor: at > right / 2 ? "right" : "left", text: outside ? `${text} →` : text,
      font: { color: line.color }, bgcolor: colour("surface"), borderpad: 1,
    };
  });
  return [shapes, annotations];
}

/** The spend up to which the chart shows customers, unless all are asked for. */
function spendLimit(customers) {
  const spends = customers.map((row) => Number(row.average_monthly_spend_usd)).sort((a, b) => a - b);
  const most = spends.at(-1) ?? 0;
  const limit = spends[Math.ceil(SPEND_QUANTILE * (spends.length - 1))] ?? 0;
  const isSqueezed = most > 1.4 * limit;
  byId("show-all").parentElement.hidden = !isSqueezed;
  return isSqueezed && !byId("show-all").checked ? limit : most;
}

function drawBreakEven(customers, programmes) {
  const names = [...new Set([...programmes, ...customers].map((row) => row.programme))].sort();
  const colours = new Map(names.map((name, index) => [name, colour(`series-${(index % 6) + 1}`)]));
  const limit = spendLimit(customers);
  const right = 1.04 * Math.max(limit, 1);
  const points = { type: "scatter", mode: "markers", hoverinfo: "text" };
  const traces = names.map((name) => {
    const rows = customers.filter((row) => row.programme === name
      && Number(row.average_monthly_spend_usd) <= limit);
    return {
      ...points, legendgroup: plain(name), showlegend: false,
      x: rows.map((row) => Number(row.average_monthly_spend_usd)),
      y: rows.map((row) => Number(row.monthly_net_usd)),
      text: rows.map((row) => [
        `Customer ${plain(row.customer_id)}, ${named(name)}`,
        `spends ${usd(row.average_monthly_spend_usd)} a month, net ${usd(row.monthly_net_usd)}`,
        row.break_even_status === "never" ? "never breaks even"
          : `breaks even at ${usd(row.break_even_spend_usd)}`,
      ].map((line) => label(line)).join("<br>")),
      marker: {
        color: colours.get(name), size: 7, opacity: 0.8, line: { width: 1.4, color: colours.get(name) },
        symbol: rows.map((row) => SYMBOLS[row.break_even_status] ?? "circle"),
      },
    };
  });
  // Points that are never drawn: colours and symbols in the legend, each by itself.
  const key = (name, color, symbol) => ({
    ...points, name: label(name), x: [null], y: [null],
    marker: { color, symbol, size: 8, line: { width: 1.4, color } },
  });
  traces.push(...names.map((name) => (
    { ...key(named(name), colours.get(name), "square"), legendgroup: plain(name) })));
  traces.push(...Object.entries(SYMBOLS).map(([status, symbol]) => key(status, colour("muted"), symbol)));
  const [shapes, annotations] = thresholds(programmes, colours, right);
  const side = (text, yanchor, name) => ({
    text, xref: "paper", x: 1, xanchor: "right", y: 0, yanchor, showarrow: false,
    font: { color: colour(name) }, bgcolor: colour("surface"), opacity: 0.9,
  });
  const empty = "No customer of a cash-back programme has spent yet.";
  chart("break-even-chart", "Each customer's average monthly spend against monthly net, by programme. "
    + programmes.map((row) => `${named(row.programme)}: ${grouped(row.above)} above break-even, `
      + `${grouped(row.below)} below, ${grouped(row.never)} never; median break-even spend `
      + usd(row.median_break_even_spend_usd)).join(". "),
  customers.length ? traces : [], {
    height: 500, showlegend: true, dragmode: matchMedia("(pointer: fine)").matches ? "zoom" : false,
    margin: { l: 8, r: 16, t: 16 + 17 * (annotations.length + 1), b: 8 }, hovermode: "closest",
    legend: { orientation: "h", x: 0, y: -0.16, yanchor: "top", traceorder: "normal" },
    uirevision: byId("show-all").checked,
    shapes, annotations: [...annotations, side("▲ earns", "bottom", "muted"), side("▼ loses", "top", "bad")],
    xaxis: axis({
      fixedrange: false, range: [-0.02 * right, right], tickformat: "$,.0f", zeroline: false,
      title: { text: "Average monthly card spend", standoff: 8 },
    }),
    yaxis: axis({
      fixedrange: false, tickformat: "$,.0f", zerolinewidth: 2, title: { text: "Monthly net", standoff: 8 },
    }),
  }, empty);
  table("programme-table", "Customers by programme and break-even", [
    ["Programme", "programme", "name"], ["Customers", "customers", "count"],
    ["Above break-even", "above", "count"], ["Below", "below", "count"], ["Never", "never", "count"],
    ["No spend", "no_spend", "count"],
    ["Median break-even spend", "median_break_even_spend_usd", "usd"], ["Net a month", "net_usd", "usd"],
  ], programmes, "No cash-back programme has customers yet.");
}

/* ---- The page ---- */

function drawTiles(summary, mix) {
  const high = mix.find((row) => row.engagement_level === "HIGH");
  write("tile-customers", grouped(summary.customers));
  write("note-customers", `${grouped(summary.active_customers)} active in the last 30 days, `
    + `spending ${usd(summary.card_spend_usd)}`);
  write("tile-engaged", percent(high?.share_pct));
  write("note-engaged", high ? `${plural(high.customers, "customer", "customers")} at level HIGH`
    : "no customer at level HIGH");
  write("tile-cost", usd(summary.cash_back_cost_usd));
  const when = summary.cash_back_month ? `in ${month(summary.cash_back_month)}, the newest month that is over` : "";
  write("note-cost", when);
  write("tile-net", usd(summary.cash_back_net_usd), isNegative(summary.cash_back_net_usd));
  write("note-net", "interchange and fees less cash back and servicing");
  write("tile-loss", grouped(summary.customers_in_loss));
  write("note-loss", `losing ${usd(summary.loss_usd)} in the month`);
  write("tile-rejected", grouped(summary.records_rejected));
  write("note-rejected", `of ${grouped(summary.records_landed)} landed; `
    + `${plural(summary.late_changes, "record", "records")} late`);
}

function drawAsOf(asOf, generatedAt) {
  write("as-of", asOf ? instant(asOf) : "no business event yet");
  byId("age").replaceChildren(...(asOf ? ["newest business event ", since(asOf)] : []));
  byId("exported").replaceChildren(`Exported ${instant(generatedAt)}, `, since(generatedAt), ".");
}

function drawFeeds(freshness, rejected) {
  table("freshness-table", "Freshness by feed", [
    ["Feed", "feed", "text"], ["Records", "records", "count"], ["Last batch", "last_batch_id", "count"],
    ["Last landed", "last_ingested_at", "instant"], ["Newest at source", "last_source_timestamp", "instant"],
    ["Lateness, 95 %", "lateness_p95_seconds", "duration"],
  ], freshness, "No feed has landed anything yet.");
  const mostFirst = [...rejected].sort((a, b) => Number(b.records) - Number(a.records));
  table("rejected-table", "Rejected records", [
    ["Feed", "feed", "text"], ["Stage", "stage", "text"], ["Reason", "reason", "long"],
    ["Records", "records", "count"], ["Last", "last_at", "instant"],
  ], mostFirst, "Nothing was rejected.");
}

function draw(insights) {
  const { views } = insights;
  drawTiles(views.summary[0] ?? {}, views.engagement_mix);
  drawEngagement(views.engagement_mix);
  drawFavorites(views.favorites);
  drawOffers(views.offers);
  drawMonthly(views.cash_back_monthly);
  drawDaily(views.cash_back_daily);
  drawLosses(views.losses, views.losses_by_reason);
  drawBreakEven(views.break_even, views.break_even_by_programme);
  drawFeeds(views.freshness, views.rejected);
  drawAsOf(views.summary[0]?.as_of, insights.generated_at);
}

/* ---- Reading ---- */

async function fetchInsights() {
  // no-store: a server's modification times are too coarse to tell two quick exports apart.
  const response = await fetch("insights.json", {
    cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS),
  }).catch(() => { throw new Error("the server does not answer"); });
  if (!response.ok) throw new Error(`the server answered ${response.status} for insights.json`);
  try {
    return JSON.parse(await response.text());
  } catch (error) {
    throw new Error(`insights.json is not valid JSON (${error.message})`);
  }
}

/** A page opened from disk may not fetch, but may load a script: the same data, assigned. */
function loadInsights() {
  delete window.INSIGHTS;
  const script = document.createElement("script");
  script.src = `insights.js?${Date.now()}`;
  return new Promise((resolve, reject) => {
    script.onerror = () => reject(new Error("insights.js is not beside this page"));
    script.onload = () => (window.INSIGHTS === undefined
      ? reject(new Error("insights.js is not complete")) : resolve(window.INSIGHTS));
    document.head.append(script);
  }).finally(() => script.remove());
}

function checked(insights) {
  const missing = VIEWS.filter((name) => !Array.isArray(insights?.views?.[name]));
  if (missing.length) throw new Error(`the data lack ${missing.join(", ")}`);
  if (!insights.generated_at) throw new Error("the data do not say when they were exported");
  return insights;
}

function fail(error) {
  write("status", `New data could not be shown: ${error.message}. `
    + (current ? `Below is the last good data, exported ${instant(current.generated_at)}.`
      : "There is nothing to show yet; this page keeps trying."));
  root.dataset.state = "error";
}

function redraw() {
  if (current) draw(current);
}

function show(next) {
  try {
    draw(next);
  } catch (error) {
    redraw(); // it may have failed half-way
    throw error;
  }
  current = next;
  root.dataset.generatedAt = next.generated_at;
}

async function refresh() {
  try {
    const next = checked(await (SERVED ? fetchInsights() : loadInsights()));
    if (next.generated_at !== current?.generated_at) show(next);
    write("status", `Up to date. This page looks for new data every ${POLL_MS / 1000} seconds.`);
    root.dataset.state = "ready";
  } catch (error) {
    fail(error);
  }
  tick();
}

function poll() {
  refresh().finally(() => setTimeout(poll, POLL_MS));
}

for (const query of [DARK, NARROW]) query.addEventListener("change", redraw);
byId("show-all").addEventListener("change", redraw);
addEventListener("beforeprint", () => { root.dataset.print = ""; redraw(); });
addEventListener("afterprint", () => { delete root.dataset.print; redraw(); });
poll();
