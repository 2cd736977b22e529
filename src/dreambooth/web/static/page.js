// What makes the pages pleasant; every action works without it.

const banner = document.querySelector(".banner");

// On a phone the screen's own name may be beyond the edge of the list of screens.
const screens = document.querySelector(".steps");
const here = screens?.querySelector("[aria-current]");
function showScreen() {
  if (here) screens.scrollLeft = here.offsetLeft - screens.offsetLeft - (screens.clientWidth - here.offsetWidth) / 2;
}
showScreen();
addEventListener("resize", showScreen);

// Parts of the page that the server renders anew while a model trains.
for (const place of document.querySelectorAll("[data-live]")) {
  const wasActive = place.dataset.active === "yes";
  const source = new EventSource(place.dataset.live);
  source.addEventListener("part", (event) => {
    const { id, html } = JSON.parse(event.data);
    const part = document.getElementById(id);
    if (part === null || part.contains(document.activeElement)) return;
    const open = [...part.querySelectorAll("details")].map((one) => one.open);
    const scrolled = [...part.querySelectorAll(".strip, .wide")].map((one) => one.scrollLeft);
    part.innerHTML = html;
    part.querySelectorAll("details").forEach((one, index) => { one.open = open[index] ?? false; });
    part.querySelectorAll(".strip, .wide").forEach((one, index) => { one.scrollLeft = scrolled[index] ?? one.scrollWidth; });
    const isActive = part.querySelector(".state-running, .state-waiting") !== null;
    if (id === "live-state" && isActive !== wasActive) location.reload();
  });
  source.addEventListener("open", () => { banner.hidden = true; });
  source.addEventListener("error", () => {
    banner.hidden = false;
    if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 3000);
  });
  addEventListener("pagehide", () => source.close());
}

// A screen reader hears how far a training is at most every half minute.
for (const spoken of document.querySelectorAll("[data-spoken]")) {
  setInterval(() => { spoken.textContent = document.querySelector(".progress span")?.textContent ?? ""; }, 30000);
}

// Parts that wait for a job: the same page is asked again, and only the part is replaced, so nothing typed is lost.
for (const part of document.querySelectorAll("[data-refresh]")) {
  const isWaiting = () => part.querySelector(".state-running, .state-waiting") !== null;
  const again = async () => {
    try {
      const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
      const now = page.getElementById(part.id);
      if (now !== null && now.innerHTML !== part.innerHTML) part.innerHTML = now.innerHTML;
      banner.hidden = true;
    } catch {
      banner.hidden = false;
    }
    if (isWaiting()) setTimeout(again, 2000);
  };
  if (isWaiting()) setTimeout(again, 1500);
}

// Forms that save what changed as soon as it did.
for (const form of document.querySelectorAll("form[data-save]")) {
  const status = form.querySelector(".saved");
  form.querySelector("button").hidden = true;
  form.addEventListener("change", async (event) => {
    const field = event.target.closest(".field");
    const body = new FormData(form);
    if (field !== null) {
      const shown = field.querySelector("[name=shown]");
      body.delete("shown");
      if (shown !== null) body.append("shown", shown.value);
    }
    status.textContent = "Saving";
    try {
      const answer = await fetch(`/api/v1${new URL(form.action).pathname}`, { method: "POST", body });
      const { problems = [] } = await answer.json();
      status.textContent = answer.ok ? "Saved" : problems.join(" ");
      if (answer.ok) {
        show(form, problems);
        await follow();
      }
    } catch {
      status.textContent = "Not saved: the server does not answer.";
    }
  });
}

// What the saved values lead to: sentences, commands, buttons.
async function follow() {
  const parts = [...document.querySelectorAll("[data-follows]")];
  if (parts.length === 0) return;
  const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
  for (const part of parts) {
    const now = page.getElementById(part.id);
    if (now !== null && !part.contains(document.activeElement)) part.innerHTML = now.innerHTML;
  }
}

// The problems of the fields of a form, in the server's words.
function show(form, problems) {
  for (const field of form.querySelectorAll(".field")) {
    const path = field.querySelector("[name=shown]")?.value;
    const own = problems.filter((one) => one.setting === path);
    field.querySelectorAll("p.alarm").forEach((one) => one.remove());
    field.classList.toggle("wrong", own.length > 0);
    for (const { problem } of own) {
      const line = document.createElement("p");
      line.className = "alarm";
      line.textContent = problem;
      field.append(line);
    }
  }
}

// Files that are dropped or chosen are sent at once, one request for each, so that a large set shows how far it is.
for (const form of document.querySelectorAll("form[data-drop]")) {
  const status = form.querySelector(".saved");
  const send = async (files) => {
    const refused = [];
    for (const [index, file] of files.entries()) {
      status.textContent = `Sending ${index + 1} of ${files.length}: ${file.name}`;
      const body = new FormData();
      body.append("files", file);
      const answer = await fetch(`/api/v1${location.pathname}`, { method: "POST", body });
      const values = await answer.json();
      refused.push(...(values.refused ?? values.problems ?? []));
    }
    if (refused.length === 0) location.reload();
    status.textContent = refused.map((one) => `Not added: ${one}`).join("\n");
  };
  const input = form.querySelector("input[type=file]");
  input.addEventListener("change", () => send([...input.files]));
  form.querySelector("button").hidden = true;
  form.addEventListener("dragover", (event) => { event.preventDefault(); form.classList.add("over"); });
  form.addEventListener("dragleave", () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    form.classList.remove("over");
    send([...event.dataTransfer.files]);
  });
}

// Settings by a part of their name or sentence.
for (const search of document.querySelectorAll("[data-find]")) {
  search.closest("[hidden]").hidden = false;
  search.addEventListener("input", () => {
    const wanted = search.value.trim().toLowerCase();
    for (const field of document.querySelectorAll(".field[data-search]")) field.hidden = !field.dataset.search.includes(wanted);
    for (const section of document.querySelectorAll("form.settings details")) {
      section.hidden = section.querySelector(".field:not([hidden])") === null;
      section.open = wanted !== "" && !section.hidden;
    }
  });
}

// A picture opens large; arrows walk along its strip, Escape closes it.
const dialog = document.createElement("dialog");
dialog.setAttribute("aria-label", "Picture");
const large = dialog.appendChild(document.createElement("img"));
document.body.append(dialog);
let strip = [];
let place = 0;
function open(index) {
  if (strip[index] === undefined) return;
  place = index;
  large.src = strip[place].href;
  large.alt = strip[place].querySelector("img").alt;
  if (!dialog.open) dialog.showModal();
}
document.addEventListener("click", (event) => {
  const link = event.target.closest(".strip a");
  if (link === null || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  strip = [...link.closest(".strip").querySelectorAll("a")];
  open(strip.indexOf(link));
});
dialog.addEventListener("click", () => dialog.close());
dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowRight") open(place + 1);
  if (event.key === "ArrowLeft") open(place - 1);
});

for (const back of document.querySelectorAll("[data-back]")) {
  back.addEventListener("click", (event) => { event.preventDefault(); history.back(); });
}

// A mask is painted over its photo: white is the subject. It is kept as a picture of the photo's proportions.
for (const place of document.querySelectorAll("[data-draw]")) {
  place.hidden = false;
  const canvas = place.querySelector("canvas");
  const status = place.querySelector(".saved");
  const brush = place.querySelector("[type=range]");
  const { width, height } = canvas;
  const layer = () => Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
  const [view, mask, shade] = [canvas.getContext("2d"), layer(), layer()];
  const photo = new Image();
  let spot = { x: width / 2, y: height / 2 };
  const show = () => {
    shade.globalCompositeOperation = "copy";
    shade.fillStyle = "rgb(0 0 0 / .65)";
    shade.fillRect(0, 0, width, height);
    shade.globalCompositeOperation = "destination-out";
    shade.drawImage(mask.canvas, 0, 0);
    view.drawImage(photo, 0, 0, width, height);
    view.drawImage(shade.canvas, 0, 0);
    for (const [color, line] of [["#000", 3], ["#fff", 1]]) {
      view.beginPath();
      view.arc(spot.x, spot.y, Number(brush.value) / 2, 0, 2 * Math.PI);
      view.strokeStyle = color;
      view.lineWidth = (line * width) / canvas.clientWidth;
      view.stroke();
    }
  };
  const use = (tool) => { mask.globalCompositeOperation = tool === "erase" ? "destination-out" : "source-over"; };
  const stroke = (to) => {
    use(place.querySelector("[name=tool]:checked").value);
    Object.assign(mask, { strokeStyle: "#fff", lineCap: "round", lineWidth: Number(brush.value) });
    mask.beginPath();
    mask.moveTo(spot.x, spot.y);
    mask.lineTo(to.x, to.y);
    mask.stroke();
    status.textContent = "";
  };
  const at = (event) => ({ x: (event.offsetX * width) / canvas.clientWidth, y: (event.offsetY * height) / canvas.clientHeight });
  const move = (to, isPainting) => {
    if (isPainting) stroke(to);
    spot = to;
    show();
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    spot = at(event);
    move(spot, true);
  });
  canvas.addEventListener("pointermove", (event) => move(at(event), event.buttons !== 0));
  canvas.addEventListener("keydown", (event) => {
    const step = Math.max(2, Number(brush.value) / 3);
    const [x, y] = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key] ?? [0, 0];
    if (event.key === "+" || event.key === "-") brush.value = Number(brush.value) * (event.key === "+" ? 1.25 : 0.8);
    else if (event.key !== " " && x === 0 && y === 0) return;
    event.preventDefault();
    move({ x: Math.min(width, Math.max(0, spot.x + x)), y: Math.min(height, Math.max(0, spot.y + y)) }, event.key === " ");
  });
  brush.addEventListener("input", show);
  for (const button of place.querySelectorAll("[data-fill]")) {
    button.addEventListener("click", () => {
      use(button.dataset.fill);
      mask.fillStyle = "#fff";
      mask.fillRect(0, 0, width, height);
      show();
    });
  }
  place.querySelector("[data-keep]").addEventListener("click", () => {
    const kept = layer();
    kept.fillRect(0, 0, width, height);
    kept.drawImage(mask.canvas, 0, 0);
    status.textContent = "Saving";
    kept.canvas.toBlob(async (picture) => {
      const body = new FormData();
      body.append("files", picture, "mask.png");
      try {
        const answer = await fetch(place.dataset.draw, { method: "POST", body });
        const { problems = [], hint = "" } = await answer.json();
        status.textContent = answer.ok ? "Saved" : [...problems, hint].join(". ");
      } catch {
        status.textContent = "Not saved: the server does not answer.";
      }
    });
  });
  photo.addEventListener("load", show);
  photo.src = place.dataset.photo;
  if (place.dataset.mask !== undefined) {
    const earlier = new Image();
    earlier.addEventListener("load", () => { use("paint"); mask.drawImage(earlier, 0, 0, width, height); show(); });
    earlier.src = place.dataset.mask;
  }
}
