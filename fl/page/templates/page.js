// Draws the plots of the page and lets two axes be chosen. Without it the page shows their pictures.
(() => {
  "use strict";
  const HOW = {
    actions: false,
    renderer: "svg",
    ast: true, // expressions are interpreted: the page's policy allows no eval
    defaultStyle: false,
    tooltip: { disableDefaultStyle: true },
  };

  const views = new Map(); // figure -> what is drawn in it

  async function embed(figure, spec) {
    const canvas = figure.querySelector(".canvas");
    const link = figure.querySelector("a.take");
    const still = canvas.querySelector("img");
    if (still && link) {
      link.href = still.src;
      link.hidden = false;
    }
    views.get(figure)?.finalize();
    const { view } = await window.vegaEmbed(canvas, spec, HOW);
    figure.dataset.drawn = "yes";
    views.set(figure, view);
    return view;
  }

  const held = (figure) => JSON.parse(figure.querySelector('script[type="application/json"]').textContent);

  // All plots of a part of the page; `secagg.draw` of whoever puts another part in.
  function draw(root) {
    for (const [figure, view] of views) {
      if (figure.isConnected) continue;
      view.finalize(); // else it listens on, to a window in which it is no more
      views.delete(figure);
    }
    return Promise.all(
      [...root.querySelectorAll("[data-plot]")].map((figure) => {
        const { spec, data } = held(figure);
        return data ? chart(figure, spec, data) : embed(figure, spec);
      }),
    );
  }

  // The chart: two selects, a list of protections, and the details of the one that is looked at, or else of
  // the one that was chosen last.
  async function chart(figure, spec, data) {
    const part = figure.closest("section");
    const form = part.querySelector("[data-axes]");
    const buttons = [...part.querySelectorAll("[data-point]")];
    const details = [...part.querySelectorAll("[data-details]")];
    let view = null;
    let pinned = 0;

    function show(i) {
      details.forEach((each, j) => (each.hidden = j !== i));
      buttons.forEach((each, j) => each.classList.toggle("seen", j === i));
      view.signal("chosen", data.points[i].name).runAsync();
    }

    function pin(i) {
      pinned = i;
      buttons.forEach((each, j) => each.setAttribute("aria-pressed", String(j === pinned)));
      show(pinned);
    }

    function rows(x, y) {
      const ends = (side, [at, low, high]) => ({ [side]: at, [`${side}_low`]: low, [`${side}_high`]: high });
      return data.points.flatMap((point, i) => {
        const [across, upwards] = [data.sides[x][i], data.sides[y][i]];
        if (!across || !upwards) return [];
        const [label, before] = data.labels[x][y][i];
        return [{ ...point, label, before, ...ends("x", across), ...ends("y", upwards) }];
      });
    }

    async function drawn() {
      const [x, y] = [form.elements.x.value, form.elements.y.value];
      for (const layer of spec.layer) {
        Object.assign(layer.encoding.x, data.axes[x].x);
        Object.assign(layer.encoding.y, data.axes[y].y);
      }
      spec.data.values = rows(x, y);
      view = await embed(figure, spec);
      const at = (item) => data.points.findIndex((point) => point.name === item?.datum?.name);
      view.addEventListener("mouseover", (_, item) => at(item) >= 0 && show(at(item)));
      view.addEventListener("mouseout", () => show(pinned));
      view.addEventListener("click", (_, item) => at(item) >= 0 && pin(at(item)));
      for (const each of part.querySelectorAll("[data-undrawn]")) {
        each.hidden = ![x, y].includes(each.dataset.undrawn);
      }
      for (const each of part.querySelectorAll("[data-axis]")) {
        each.classList.toggle("seen", [x, y].includes(each.dataset.axis));
      }
      show(pinned);
    }

    let last = Promise.resolve();
    const redraw = () => (last = last.then(drawn)); // one after the other: each is of what is chosen by then

    // One axis on both sides says nothing: the other side takes what this one had.
    const had = { x: form.elements.x.value, y: form.elements.y.value };
    for (const [side, other] of [["x", "y"], ["y", "x"]]) {
      form.elements[side].addEventListener("change", () => {
        if (form.elements[side].value === form.elements[other].value) form.elements[other].value = had[side];
        had[side] = form.elements[side].value;
        had[other] = form.elements[other].value;
        redraw();
      });
    }
    form.addEventListener("submit", (event) => event.preventDefault());
    buttons.forEach((button, i) => {
      button.addEventListener("mouseenter", () => show(i));
      button.addEventListener("mouseleave", () => show(pinned));
      button.addEventListener("focus", () => show(i));
      button.addEventListener("blur", () => show(pinned));
      button.addEventListener("click", () => pin(i));
    });
    await redraw();
  }

  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => (each.open = true)));
  window.secagg = { draw };
  draw(document).then(() => (document.documentElement.dataset.drawn = "yes"));
})();
