"use strict";
const by = (id) => document.getElementById(id);
const make = (name, kind, ...parts) => {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  made.append(...parts.filter((part) => part !== null && part !== undefined).map(
    (part) => part instanceof Node ? part : String(part)));
  return made;
};
const count = (value) => value === null || value === undefined ? "–" : value.toLocaleString("en");
const lasting = (seconds) => {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86400).toFixed(1)} d`;
};
const time = (text) => text ? `${text.slice(0, 19).replace("T", " ")} UTC` : "";
const get = async (path) => {
  const answer = await fetch(path, {cache: "no-store", credentials: "omit"});
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error || answer.statusText);
  return found;
};
const table = (headings, rows, numeric = []) => {
  const row = (name, cells) => make("tr", "", ...cells.map(
    (cell, n) => make(name, numeric.includes(n) ? "n" : "", cell ?? "")));
  return make("table", "", make("thead", "", row("th", headings)),
    make("tbody", "", ...rows.map((cells) => row("td", cells))));
};
const video = (id, title) => {
  const button = make("button", "video", title || id);
  button.type = "button";
  button.dataset.video = id;
  button.title = title || "";
  return title && title !== id ? make("span", "", button, make("small", "", id)) : button;
};

// What is being pressed stays where it is, or the press would be lost; what has not changed stays
// too, so that text can be marked.
let pressed = false;
document.addEventListener("pointerdown", () => { pressed = true; });
for (const end of ["pointerup", "pointercancel"])
  document.addEventListener(end, () => setTimeout(() => { pressed = false; }));
const before = {};
const changed = (part, found) => {
  const text = JSON.stringify(found);
  if (pressed || before[part] === text) return false;
  before[part] = text;
  return true;
};

// ---- where everything stands ----

const step = (name, value, total, told, kind = "") => {
  const bar = make("progress");
  bar.max = Math.max(total, 1);
  bar.value = Math.min(value, bar.max);
  bar.setAttribute("aria-label", `${name}: ${told}`);
  return make("div", `step ${kind}`, make("span", "", name), bar, make("b", "", told));
};
const pace = (rate) => {
  if (!rate || !rate.per_minute) return "";
  const left = rate.eta_seconds === null ? "" : `, filtered in ${lasting(rate.eta_seconds)}`;
  return `${rate.per_minute.toFixed(1)} videos/min${left}`;
};
const project = (found, rate, reports) => {
  const total = found.total_videos, videos = (n) => `${count(n)} of ${count(total)} videos`;
  const heading = make("h2", "", found.name, make("span", `pill ${found.stage}`, found.stage),
    make("span", "pace", pace(rate)));
  if (reports.includes(found.name)) {
    const link = make("a", "", "Report →");
    link.href = `report/${encodeURIComponent(found.name)}`;
    link.target = "_blank";
    link.rel = "noopener";
    heading.append(link);
  }
  const done = found.stage === "COMPLETE" ? found.unique_frames : 0;
  const filtered = rate ? rate.filtered : 0;
  const frames = `${count(found.unique_frames)} of ${count(found.filtered_frames)} frames`;
  return make("section", "project", heading,
    step("downloaded", found.videos_downloaded, total, videos(found.videos_downloaded)),
    step("extracted", found.videos_extracted, total, videos(found.videos_extracted)),
    step("filtered", filtered, total, videos(filtered)),
    step("unique", found.unique_frames, found.filtered_frames, frames),
    step("annotated", done, found.unique_frames, `${count(found.annotations)} objects`, "end"),
    found.videos_failed
      ? step("failed", found.videos_failed, total, videos(found.videos_failed), "failed") : null,
    found.error ? make("p", "bad", found.error) : null);
};
const run = (found) => make("section", "project", make("h2", "", found.words.projects,
    make("span", "pill", "run at work"), make("span", "pace", found.words.headline)),
  ...found.words.stages.map(([name, ...told], n) => step(name,
    found.stages[n].done, found.stages[n].total, told.filter(Boolean).join(", "))),
  ...found.words.notes.map((line) => make("p", "", line)));
const fill = (id, rows, made) => {
  if (!changed(id, rows)) return;
  by(id).hidden = rows.length === 0;
  by(id).querySelector(".tablebox").replaceChildren(made);
};
const claim = (found, stale) => {
  const [host, pid, slurm] = found.locked_by.split(":");
  const late = found.heartbeat_age > stale;
  const beat = `${lasting(found.heartbeat_age)} ago${late ? ", stale" : ""}`;
  const id = found.what.split("/").pop();
  const what = ["DEDUPING", "DETECTING"].includes(found.doing) ? found.what : video(id, found.what);
  return [found.doing.toLowerCase(), what, host, pid, (slurm || "").replace("slurm-", ""),
    make("span", late ? "bad" : "good", beat)];
};
const show = (now) => {
  const lost = now.trouble ? `The database did not answer: ${now.trouble} Shown is ` : "as of ";
  by("said").textContent = `${lost}${time(now.at)}, again every ${now.interval} s`;
  by("said").className = by("dot").className = now.trouble ? "lost" : "";
  if (changed("runs", now.runs)) by("runs").replaceChildren(...now.runs.map(run));
  if (changed("projects", [now.projects, now.rates, now.reports]))
    by("projects").replaceChildren(...now.projects.map(
      (found) => project(found, now.rates[found.name], now.reports)));
  if (!now.projects.length) by("projects").textContent = "No projects yet.";
  const chosen = by("project");
  const names = now.projects.map((found) => found.name);
  if (names.join() !== [...chosen.options].slice(1).map((one) => one.value).join())
    chosen.replaceChildren(chosen.options[0], ...names.map((name) => new Option(name, name)));
  fill("pauses", now.pauses, table(["source", "reason", "for"], now.pauses.map(
    (one) => [one.source, one.reason, lasting(Math.max(one.seconds_left, 0))])));
  fill("claims", now.claims, table(["doing", "what", "host", "pid", "slurm", "heartbeat"],
    now.claims.map((one) => claim(one, now.stale_seconds)), [3, 5]));
  fill("classes", now.classes, table(["class", "kind", "videos", "next step"], now.classes.map(
    (one) => [make("code", "", one.name), one.kind, count(one.count), one.next_step]), [2]));
  fill("notes", now.notes, table(["project", "number", "what", "videos"], now.notes.map((one) => [
    one.project, count(one.count), make("span", one.is_warning ? "warn" : "", one.text),
    count(one.videos)]), [1, 3]));
};

// ---- videos ----

let page = 0, asking = 0;
const list = async () => {
  const mine = ++asking;
  const asked = new URLSearchParams({project: by("project").value, state: by("state").value,
    text: by("text").value, page});
  const found = await get(`videos.json?${asked}`);
  if (mine !== asking) return null;  // asked for something else meanwhile
  if (found.page >= found.pages && page > 0) { page = 0; return list(); }
  if (!changed("list", found)) return null;
  const focused = document.activeElement?.dataset?.video;
  by("list").replaceChildren(table(
    ["video", "project", "state", "frames", "good", "why"],
    found.rows.map((row) => [video(row.video_id, row.title), row.project,
      make("span", row.state === "failed" ? "bad" : row.state === "done" ? "good" : "", row.state),
      count(row.frame_count), count(row.passed_frames),
      row.error_class ? make("code", "", row.error_class) : ""]), [3, 4]));
  if (focused) by("list").querySelector(`[data-video="${CSS.escape(focused)}"]`)?.focus();
  by("where").textContent = `${count(found.total)} videos, page ${page + 1} of ${found.pages}`;
  by("back").disabled = page === 0;
  by("on").disabled = page + 1 >= found.pages;
  return null;
};

// ---- one video's story ----

const facts = (pairs) => make("dl", "facts", ...pairs.filter(([, value]) => value || value === 0)
  .flatMap(([name, value]) => [make("dt", "", name), make("dd", "", value)]));
const trouble = (row, next) => {
  const [reason, step] = (row.error || "").split(" Next: ");
  return row.error ? [["error", make("span", "bad", `${reason} [${row.error_class}]`)],
    ["next", make("b", "", step || next || "")]] : [];
};
const held = (row) => {
  if (!row.locked_by) return "";
  const beat = `last heartbeat ${lasting(row.heartbeat_age)} ago`;
  return `${row.locked_by} since ${time(row.locked_at)}, ${beat}`;
};
const times = (row) => [["added", time(row.created_at)], ["changed", time(row.updated_at)],
  ["held by", held(row)], ["attempts", row.attempts || ""],
  ["failing", row.failing_since ? `${row.failures} attempts since ${time(row.failing_since)}` : ""],
  ["waits", row.not_before ? `until ${time(row.not_before)}` : ""]];
const shown = (made) => made === null ? "none made yet" : count(made);
const story = (told) => {
  const row = told.video, files = told.files, parts = [];
  const frames = Object.entries(files.frames).map(([folder, made]) =>
    `${made === null ? "table damaged" : count(made)} in ${folder}`).join(", ");
  const size = files.video ? `${files.video} (${count(files.video_bytes)} bytes)` : "none";
  parts.push(facts([["id", row.video_id], ["title", row.title], ["status", row.status],
    ["source", `${row.url} (${row.source_type})`], ...times(row), ...trouble(row, told.next_step),
    ["pause", told.pause ? `${told.pause.source}: ${told.pause.reason}` : ""],
    ["warning", row.warning], ["noted", told.noted.join("; ")], ["file", size],
    ["frames", frames || shown(null)],
    ["damaged", files.damaged.join("; ")]]));
  for (const pair of told.projects)
    parts.push(make("h3", "", `in project ${pair.project}`), facts([["status", pair.status],
      ...times(pair), ...trouble(pair, pair.next_step), ["noted", pair.noted.join("; ")],
      ["good frames", shown(pair.filtered)],
      ["left out", Object.entries(pair.rejected).sort(([, a], [, b]) => b - a).map(
        ([reason, made]) => `${count(made)} ${reason}`).join(", ")],
      ["excluded", pair.excluded ? `${count(pair.excluded)} near a reference` : ""],
      ["unique frames", shown(pair.unique)]]));
  if (told.logs.length) parts.push(make("h3", "", "logs"));
  for (const log of told.logs) {
    const more = make("details", "", make("summary", "", `${log.failed ? "✗" : "✓"} ${log.path}`),
      make("pre", "", log.last_lines.join("\n") || "empty"));
    more.open = log.failed;
    parts.push(more);
  }
  by("story-title").textContent = row.title || row.video_id;
  by("story-body").replaceChildren(...parts);
};
document.addEventListener("click", async (event) => {
  const id = event.target.closest?.("[data-video]")?.dataset.video;
  if (!id) return;
  by("story-title").textContent = id;
  by("story-body").textContent = "asking …";
  if (!by("story").open) by("story").showModal();
  try {
    const told = await get(`why.json?${new URLSearchParams({video: id})}`);
    if (by("story-title").textContent === id) story(told);
  } catch (error) {
    by("story-body").textContent = String(error.message);
  }
});
by("close").onclick = () => by("story").close();
by("story").onclick = (event) => { if (event.target === by("story")) by("story").close(); };

// ---- again and again ----

const once = async () => {
  let seconds = 3;
  try {
    const now = await get("now.json");
    seconds = now.interval;
    show(now);
    await list();
  } catch (error) {
    by("said").textContent = `No answer, asking again: ${error.message}`;
    by("said").className = by("dot").className = "lost";
  }
  return seconds;
};
const choose = (to) => { page = to; list().catch(() => {}); };
by("project").onchange = by("state").onchange = by("text").oninput = () => choose(0);
by("back").onclick = () => choose(page - 1);
by("on").onclick = () => choose(page + 1);
const again = async () => {
  const seconds = document.hidden ? 3 : await once();
  setTimeout(again, 1000 * seconds);
};
again();
