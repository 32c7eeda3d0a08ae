/* Draw the history of the last hours over its plain pictures, and keep it up to date. */
"use strict";

(() => {
  const section = document.querySelector("[data-charts]");
  if (section === null || typeof uPlot === "undefined") return;
  const AGAIN = 15000;
  const HEIGHT = 136;
  const plots = new Map();
  let latest = null;

  const two = (number) => String(number).padStart(2, "0");
  const clock = (seconds) => {
    const at = new Date(seconds * 1000);
    return `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
  };
  const text = (figure) =>
    figure == null ? "–" : figure.toLocaleString(document.documentElement.lang, { maximumFractionDigits: figure < 10 ? 2 : 0 });

  function say(items, figures) {
    items.forEach((item, place) => (item.querySelector("b").textContent = text(figures[place])));
  }

  function newest(curves) {
    return curves.map((curve) => curve.findLast((figure) => figure !== null));
  }

  function options(figure, items, curves) {
    const style = getComputedStyle(document.body);
    const axis = {
      stroke: style.getPropertyValue("color"),
      grid: { stroke: "rgba(128,128,128,.25)", width: 1 },
      ticks: { show: false },
      font: "12px system-ui, sans-serif",
    };
    return {
      width: figure.clientWidth,
      height: HEIGHT,
      padding: [6, 4, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { size: 5 } },
      scales: { y: { range: (_plot, _low, high) => [0, high > 0 ? high * 1.05 : 1] } },
      axes: [
        { ...axis, size: 24, values: (_plot, ticks) => ticks.map(clock) },
        { ...axis, size: 46, values: (_plot, ticks) => ticks.map(text) },
      ],
      series: [{}, ...items.map((item) => ({ stroke: getComputedStyle(item).color, width: 1.5, points: { show: false } }))],
      hooks: {
        setCursor: [(plot) => {
          const at = plot.cursor.idx;
          say(items, at == null ? newest(plot.data.slice(1)) : plot.data.slice(1).map((curve) => curve[at]));
        }],
      },
    };
  }

  function draw(figure, data) {
    const items = [...figure.querySelectorAll("[data-figure]")];
    const place = figure.querySelector(".plot");
    const curves = items.map((item) => data.figures[item.dataset.figure]);
    const moments = curves[0].map((_figure, count) => data.begin + count * data.step);
    const known = plots.get(figure);
    if (known) {
      known.setData([moments, ...curves]);
    } else {
      place.classList.add("drawn");
      const holder = document.createElement("div");
      holder.setAttribute("aria-hidden", "true");
      place.append(holder);
      plots.set(figure, new uPlot(options(place, items, curves), [moments, ...curves], holder));
    }
    say(items, newest(curves));
  }

  function drawAll() {
    for (const figure of section.querySelectorAll("[data-chart]")) draw(figure, latest);
  }

  async function load() {
    if (document.hidden) return;
    try {
      const answer = await fetch(section.dataset.charts);
      if (!answer.ok || answer.redirected) return;
      latest = await answer.json();
    } catch {
      return; // The connection is told elsewhere. The next attempt comes soon.
    }
    section.querySelector("[data-empty]")?.remove();
    drawAll();
  }

  function again() {
    for (const plot of plots.values()) plot.root.parentNode.remove(), plot.destroy();
    plots.clear();
    if (latest !== null) drawAll();
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  new ResizeObserver(() => {
    for (const [figure, plot] of plots) {
      const width = figure.querySelector(".plot").clientWidth;
      if (width !== plot.width) plot.setSize({ width, height: HEIGHT });
    }
  }).observe(section);
  document.addEventListener("visibilitychange", load);
  setInterval(load, AGAIN);
  load();
})();
