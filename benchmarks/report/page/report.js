"use strict";
// The gallery and the walk through one file. All pictures are in the page, as data URIs in the element "data".
{
  const data = JSON.parse(document.getElementById("data").textContent);
  const element = (id) => document.getElementById(id);
  const bytes = (n) => n.toLocaleString("en") + (n === 1 ? " byte" : " bytes");

  function fill(select, options, chosen) {
    for (const [value, text] of options) select.add(new Option(text, value, false, value === chosen));
  }

  // Shows a picture, or a line that says why there is none.
  function put(layer, number, text) {
    const image = layer.querySelector("img");
    layer.classList.toggle("none", number === null);
    if (number === null) {
      image.removeAttribute("src");
      layer.querySelector("p").textContent = text;
    } else {
      image.src = data.pictures[number];
    }
    image.alt = text;
  }

  function caption(paragraph, first, second) {
    const bold = document.createElement("b");
    const rest = document.createElement("span");
    bold.textContent = first;
    rest.textContent = second;
    paragraph.replaceChildren(bold, rest);
  }

  // One side of the gallery: a codec's picture at the budget, or the original.
  function showSide(side, image, budget) {
    const name = element(`${side}-codec`).value;
    const line = element(`${side}-caption`);
    if (name === "original") {
      put(element(side), image.original, `${image.name}, original`);
      caption(line, "original", [`${image.width} x ${image.height} px`, image.reduced].filter(Boolean).join(", "));
      return;
    }
    const label = data.codecs.find((codec) => codec.name === name).label;
    const shot = image.shots[name][budget];
    if (shot === null) {
      put(element(side), null, `${label} cannot code this image in ${bytes(Number(budget))}`);
      caption(line, `${label}: -`, `not possible in ${bytes(Number(budget))}`);
    } else {
      put(element(side), shot.picture, `${image.name}, ${label}, ${bytes(shot.bytes)}`);
      caption(line, `${label}: ${bytes(shot.bytes)}`, shot.notes);
    }
  }

  function showGallery() {
    const image = data.images[Number(element("image").value)];
    element("gallery-viewer").style.width = `${image.width * Number(element("scale").value)}px`;
    element("stage").style.aspectRatio = `${image.width} / ${image.height}`;
    for (const side of ["left", "right"]) showSide(side, image, element("budget").value);
  }

  function showSplit() {
    element("stage").style.setProperty("--split", `${element("split").value}%`);
  }

  function startGallery() {
    const names = [...data.codecs.map((codec) => [codec.name, codec.label]), ["original", "original"]];
    const [first, second] = names.map(([name]) => name);
    fill(element("image"), data.images.map((image, i) => [String(i), image.name]), "0");
    fill(element("left-codec"), names, first);
    fill(element("right-codec"), names, names.some(([name]) => name === "webp-scaled") ? "webp-scaled" : second);
    const middle = String(data.budgets[Math.floor(data.budgets.length / 2)]);
    fill(element("budget"), data.budgets.map((n) => [String(n), bytes(n)]), middle);
    for (const id of ["image", "left-codec", "right-codec", "budget", "scale"]) {
      element(id).addEventListener("change", showGallery);
    }
    element("split").addEventListener("input", showSplit);
    const stage = element("stage");
    const follow = (event) => {
      const box = stage.getBoundingClientRect();
      element("split").value = String((100 * (event.clientX - box.left)) / box.width);
      showSplit();
    };
    stage.addEventListener("pointerdown", (event) => {
      stage.setPointerCapture(event.pointerId);
      follow(event);
      event.preventDefault(); // or the picture itself is dragged
    });
    stage.addEventListener("pointermove", (event) => {
      if (stage.hasPointerCapture(event.pointerId)) follow(event);
    });
    showGallery();
    showSplit();
  }

  function startWalk() {
    const walk = data.walk;
    const viewer = element("walk-viewer");
    viewer.style.width = `${walk.width}px`;
    viewer.querySelector(".stage").style.aspectRatio = `${walk.width} / ${walk.height}`;
    const show = () => {
      const step = walk.steps[Number(element("cut").value)];
      put(element("walked"), step.picture, `${walk.image}, decoded from the first ${bytes(step.bytes)}`);
      viewer.querySelector(".bar div").style.width = `${(100 * step.bytes) / walk.bytes}%`;
      element("cut").setAttribute("aria-valuetext", bytes(step.bytes));
      caption(element("walk-caption"), `the first ${step.bytes.toLocaleString("en")} of ${bytes(walk.bytes)}`, step.notes);
    };
    element("cut").value = String(walk.steps.findIndex((step) => 4 * step.bytes >= walk.bytes));
    element("cut").addEventListener("input", show);
    show();
  }

  startGallery();
  if (data.walk) startWalk();
}
