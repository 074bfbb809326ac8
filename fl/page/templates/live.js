// Follows a run under way: once a second the part that may have changed is asked for, and put in place of what
// stands there. Focus, what is folded out, and where one has scrolled to stay as they were.
(() => {
  "use strict";
  const EVERY = 1000; // milliseconds
  const TRIES = 5; // without an answer, before it is taken for gone
  const news = document.getElementById("news");
  let tag = null;
  let failures = 0;

  // Where an element stands in the part, in a way that outlives its replacement.
  const place = (part, element) => {
    if (element.id) return `#${CSS.escape(element.id)}`;
    const alike = [...part.querySelectorAll(element.tagName)];
    return alike.includes(element) ? [element.tagName, alike.indexOf(element)] : null;
  };
  const at = (part, where) =>
    typeof where === "string" ? part.querySelector(where) : part.querySelectorAll(where[0])[where[1]];

  // A plot that is as it was is not drawn again: the drawn one stays.
  function keepPlots(was, now) {
    const held = (figure) => figure.querySelector('script[type="application/json"]')?.textContent;
    for (const figure of now.querySelectorAll("[data-plot]")) {
      const drawn = [...was.querySelectorAll("[data-plot]")].find((each) => held(each) === held(figure));
      if (drawn) figure.replaceWith(drawn);
    }
  }

  function replace(html) {
    const was = document.getElementById("live");
    const now = new DOMParser().parseFromString(html, "text/html").getElementById("live");
    const focused = was.contains(document.activeElement) ? place(was, document.activeElement) : null;
    const unfolded = [...was.querySelectorAll("details")].map((each) => each.open);
    const across = [...was.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
    const seen = window.scrollY;
    keepPlots(was, now);
    was.replaceWith(now);
    [...now.querySelectorAll("details")].forEach((each, i) => (each.open = unfolded[i] ?? each.open));
    [...now.querySelectorAll(".scroll")].forEach((each, i) => (each.scrollLeft = across[i] ?? 0));
    if (focused) at(now, focused)?.focus({ preventScroll: true });
    window.scrollTo({ top: seen, behavior: "instant" });
    if (now.querySelector("[data-plot]:not([data-drawn])")) window.secagg.draw(now);
    if (now.dataset.news !== was.dataset.news) news.textContent = now.dataset.news;
    return now.dataset.status;
  }

  async function look() {
    let status = "running";
    try {
      const answer = await fetch("/run", { cache: "no-store", headers: tag ? { "If-None-Match": tag } : {} });
      if (answer.ok) {
        status = replace(await answer.text());
        tag = answer.headers.get("ETag");
      }
      failures = 0;
    } catch {
      failures += 1;
    }
    if (failures >= TRIES) news.textContent = "The server has gone: this is the last that was seen of it.";
    else if (status === "running") setTimeout(look, EVERY);
    document.documentElement.dataset.following = failures < TRIES && status === "running" ? "yes" : "no";
  }
  if (document.getElementById("live").dataset.status === "running") look();
})();
