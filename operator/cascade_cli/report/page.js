"use strict";
// Draws the figures that are in sight, in the colours of the page, and those of the load and
// policy that are chosen.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 40rem)");
  const options = { responsive: true, displayModeBar: false };
  const LEGEND_LINE = 20;

  const themed = (layout) => {
    const css = getComputedStyle(document.body);
    const colour = (name) => css.getPropertyValue(name).trim();
    const changes = {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      "font.color": colour("--text"),
      "font.family": css.fontFamily,
      "font.size": narrow.matches ? 11 : 13,
      "modebar.bgcolor": "rgba(0,0,0,0)",
      "modebar.color": colour("--soft"),
      "hoverlabel.bgcolor": colour("--panel"),
      "hoverlabel.font.color": colour("--text"),
    };
    for (const axis of Object.keys(layout).filter((key) => /^[xy]axis/.test(key))) {
      changes[`${axis}.gridcolor`] = colour("--grid");
      changes[`${axis}.linecolor`] = colour("--line");
      changes[`${axis}.zerolinecolor`] = colour("--line");
    }
    return changes;
  };

  const draw = (place) => {
    const { data, layout } = figures[place.id];
    place.drawn = true;
    if (narrow.matches) {
      const names = data.filter((trace) => trace.showlegend !== false).length;
      layout.height += LEGEND_LINE * Math.ceil(names / 2);
      layout.dragmode = false; // A finger on a plot scrolls the page.
      place.style.height = `${layout.height}px`;
    }
    Plotly.newPlot(place, data, layout, options).then(() =>
      Plotly.relayout(place, themed(layout)),
    );
  };

  const places = [...document.querySelectorAll(".plot")];
  const sight = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (isIntersecting && !target.drawn) draw(target);
      }
    },
    { rootMargin: "1500px" },
  );
  places.forEach((place) => sight.observe(place));

  const chosen = (name) => document.getElementById(`choose-${name}`)?.value;
  const show = () => {
    const load = chosen("load");
    const policy = chosen("policy");
    for (const part of document.querySelectorAll("[data-load], [data-policy]")) {
      part.hidden =
        (part.dataset.load !== undefined && part.dataset.load !== load) ||
        (part.dataset.policy !== undefined && part.dataset.policy !== policy);
    }
    for (const place of places) if (place.drawn && place.offsetParent) Plotly.Plots.resize(place);
  };
  document.querySelectorAll("select").forEach((select) => select.addEventListener("change", show));
  dark.addEventListener("change", () => {
    for (const place of places) {
      if (place.drawn) Plotly.relayout(place, themed(figures[place.id].layout));
    }
  });
  show();
})();
