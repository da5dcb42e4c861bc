#include "client/flame_graph_script.h"

namespace lbrd::client {

// The classes k0 to k9 are FlameKind's values; v0 to v2 tell neighbours apart.
const absl::string_view kFlameGraphStyle = R"css(
text { font: 12px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1d2733; }
.title { font-size: 18px; font-weight: 600; }
.quiet { fill: #5b6775; }
.f text { font: 11px ui-monospace, Menlo, "DejaVu Sans Mono", Consolas, monospace;
  pointer-events: none; }
.f { cursor: pointer; }
.f:hover rect { stroke: #1d2733; }
.k0 rect { fill: #e6ebf1; } .k1 rect { fill: #d3dce6; }
.k2 rect { fill: #b9bec5; stroke: #7d858f; stroke-dasharray: 3 2; } .k2 text { font-style: italic; }
.k3 rect { fill: #f3a75c; } .k4 rect { fill: #f2d16b; } .k5 rect { fill: #8fce8b; }
.k6 rect { fill: #77c9c0; } .k7 rect { fill: #8db9ec; } .k8 rect { fill: #bda8e8; }
.k9 rect { fill: #d9c2ad; }
.v1 rect { fill-opacity: .84; } .v2 rect { fill-opacity: .7; }
.past { opacity: .55; }
.match rect { fill: #e455b4; fill-opacity: 1; }
.button { cursor: pointer; fill: #2466b8; }
.hidden { display: none; }
)css";

const absl::string_view kFlameGraphScript = R"js(
(function () {
  "use strict";
  var svg = document.currentScript ? document.currentScript.ownerSVGElement
                                   : document.documentElement;
  function byId(id) { return svg.querySelector("#" + id); }
  var details = byId("details"), matched = byId("matched");
  var search = byId("search"), reset = byId("reset");
  var resting = details.textContent;
  var frames = Array.from(svg.querySelectorAll("g.f"), function (g) {
    var rect = g.querySelector("rect"), title = g.querySelector("title").textContent;
    var end = title.indexOf("\n");
    return { g: g, rect: rect, text: g.querySelector("text"), name: title.slice(0, end),
             about: title.slice(end + 1), x: +rect.getAttribute("x"),
             w: +rect.getAttribute("width"), y: +rect.getAttribute("y") };
  });
  var root = frames[0], zoomed = root, cell = 6.63;
  // Positions are rounded to 0.001.
  var slack = 0.002;
  (function measure() {
    var kept = root.text.textContent;
    root.text.textContent = "MMMMMMMMMM";
    var width = root.text.getComputedTextLength();
    if (width > 0) cell = width / 10;
    root.text.textContent = kept;
  })();

  function fit(name, width) {
    var room = Math.floor((width - 7) / cell), used = 0, cut = 0, chars = Array.from(name);
    for (var i = 0; i < chars.length; i++) {
      used += chars[i] >= "\u1100" ? 2 : 1;
      if (used <= room - 1) cut = i + 1;
    }
    if (used <= room) return name;
    return room < 3 ? "" : chars.slice(0, cut).join("") + "\u2026";
  }
  function place(f, x, w) {
    f.rect.setAttribute("x", x);
    f.rect.setAttribute("width", w);
    f.text.setAttribute("x", x + 4);
    f.text.textContent = fit(f.name, w);
  }
  function zoom(to) {
    zoomed = to;
    var scale = root.w / to.w, left = to.x - slack, right = to.x + to.w + slack;
    frames.forEach(function (f) {
      var above = f.y <= to.y && f.x >= left && f.x + f.w <= right;
      var below = f.y > to.y && f.x <= to.x + slack && f.x + f.w >= to.x + to.w - slack;
      f.g.classList.toggle("hidden", !above && !below);
      f.g.classList.toggle("past", below);
      if (below) place(f, root.x, root.w);
      if (above) place(f, root.x + (f.x - to.x) * scale, f.w * scale);
    });
    reset.classList.toggle("hidden", to === root);
  }
  function clearSearch() {
    frames.forEach(function (f) { f.g.classList.remove("match"); });
    matched.textContent = "";
    search.textContent = "Search";
  }
  function runSearch() {
    var words = prompt("Frames whose name matches this regular expression " +
                       "(case matters only if it has capitals):", "");
    if (words === null) return;
    clearSearch();
    if (words === "") return;
    var pattern;
    try {
      pattern = new RegExp(words, /[A-Z]/.test(words) ? "" : "i");
    } catch (error) {
      matched.textContent = "Not a regular expression: " + words;
      return;
    }
    var hits = frames.filter(function (f) { return f !== root && pattern.test(f.name); });
    hits.forEach(function (f) { f.g.classList.add("match"); });
    // A match above another one covers nothing new.
    hits.sort(function (a, b) { return a.x - b.x || b.w - a.w; });
    var covered = 0, reach = -1;
    hits.forEach(function (f) {
      if (f.x + f.w <= reach + slack) return;
      covered += f.x + f.w - Math.max(f.x, reach);
      reach = f.x + f.w;
    });
    matched.textContent = "Matched: " + (100 * covered / root.w).toFixed(1) + "%";
    search.textContent = "Clear search";
  }
  function searchButton() {
    if (search.textContent === "Search") runSearch(); else clearSearch();
  }
  frames.forEach(function (f) {
    f.g.addEventListener("click", function () { zoom(f); });
    f.g.addEventListener("mouseenter", function () {
      var text = Array.from(f.name), most = Math.floor(root.w / 7) - f.about.length - 3;
      details.textContent = (text.length > most ? text.slice(0, most).join("") + "\u2026" : f.name) +
        " \u2014 " + f.about;
    });
    f.g.addEventListener("mouseleave", function () { details.textContent = resting; });
  });
  search.addEventListener("click", searchButton);
  search.classList.remove("hidden");
  reset.addEventListener("click", function () { zoom(root); });
  window.addEventListener("keydown", function (event) {
    if ((event.ctrlKey || event.metaKey) && event.key === "f") {
      event.preventDefault();
      runSearch();
    } else if (event.key === "Escape") {
      if (zoomed !== root) zoom(root);
      clearSearch();
    }
  });
})();
)js";

}  // namespace lbrd::client
