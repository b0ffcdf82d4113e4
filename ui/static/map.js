// The map: photos as points that become thumbnails as one comes nearer. Both the browser's page and the
// file that `fc7 map --html` writes draw it with this. Names go in as text, never as HTML.

const LEAST = 46; // pixels a thumbnail is across, at least
const MOST = 240; // and at most
const AT_ONCE = 300; // thumbnails on the screen
const LOADING = 24; // pictures on their way at once
const KEPT = 1500; // pictures kept once they were loaded
const REACH = 12; // pixels from a point that still mean it
const DISCS = 4000; // visible points up to which they are drawn round
const CLICK = 5; // pixels; a longer way is a drag
const PALETTE = [
  "#3b82c4", "#e0803a", "#3fa35b", "#c94f5d", "#8a66c8", "#a8743f",
  "#d76fb0", "#7f9026", "#2aa7b4", "#c9a227", "#5f6fd8", "#b0563b",
]; // prettier-ignore
const GREY = "#8b9099";
const LASSO =
  '<svg viewBox="0 0 20 20" width="18" height="18" fill="none" stroke="currentColor" stroke-width="1.8" aria-hidden="true">' +
  '<ellipse cx="10" cy="8" rx="7.5" ry="5.5" stroke-dasharray="3.4 2"/><path d="M6.5 12.5c-2 2 1.5 3 .5 6"/></svg>';

const element = (tag, className, text = "") => {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
};
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

// --- what is drawn -------------------------------------------------------------------------------

/** The scene as it is sent, with typed arrays. Places are turned so that y grows downwards. */
const read = (sent) => {
  const places = new Float32Array(bytes(sent.places));
  const n = places.length / 2;
  const x = new Float32Array(n);
  const y = new Float32Array(n);
  for (let i = 0; i < n; i++) [x[i], y[i]] = [places[2 * i], -places[2 * i + 1]];
  const colours = {};
  for (const [name, scheme] of Object.entries(sent.colours)) {
    colours[name] = { ...scheme, of: new Uint16Array(bytes(scheme.of)) };
  }
  return { ...sent, n, x, y, colours };
};

/** Which points lie near a place: the points by cells of a grid. */
const gridOf = ({ n, x, y }) => {
  const low = [Infinity, Infinity];
  const high = [-Infinity, -Infinity];
  for (let i = 0; i < n; i++) {
    low[0] = Math.min(low[0], x[i]);
    low[1] = Math.min(low[1], y[i]);
    high[0] = Math.max(high[0], x[i]);
    high[1] = Math.max(high[1], y[i]);
  }
  const side = clamp(Math.ceil(Math.sqrt(n)), 1, 400);
  const span = Math.max(high[0] - low[0], high[1] - low[1], 1e-6);
  const cell = (span * 1.0001) / side;
  const column = (value) => clamp(Math.floor((value - low[0]) / cell), 0, side - 1);
  const row = (value) => clamp(Math.floor((value - low[1]) / cell), 0, side - 1);
  const first = new Int32Array(side * side + 1);
  for (let i = 0; i < n; i++) first[row(y[i]) * side + column(x[i]) + 1]++;
  let occupied = 0;
  for (let c = 1; c < first.length; c++) {
    occupied += first[c] > 0;
    first[c] += first[c - 1];
  }
  const next = first.slice();
  const items = new Int32Array(n);
  for (let i = 0; i < n; i++) items[next[row(y[i]) * side + column(x[i])]++] = i;

  const visit = (left, top, right, bottom, each) => {
    for (let r = row(top); r <= row(bottom); r++) {
      for (let c = column(left); c <= column(right); c++) {
        for (let at = first[r * side + c]; at < first[r * side + c + 1]; at++) each(items[at]);
      }
    }
  };
  const usual = Math.sqrt((occupied * cell * cell) / Math.max(n, 1)); // how far apart points are
  return { low, high, span, visit, usual };
};

/** Points so far apart that thumbnails do not cover each other; a nearer level holds a farther one's. */
const thinner = ({ n, x, y }, span, has) => {
  const order = [];
  for (let i = 0; i < n; i++) if (has(i)) order.push(i);
  const shuffled = (i) => Math.imul(i + 1, 2654435761) >>> 0;
  order.sort((a, b) => shuffled(a) - shuffled(b));
  const levels = [];
  const add = (level) => {
    const apart = span / 2 ** (level / 2);
    const taken = new Map();
    const key = (c, r) => c * 67108864 + r;
    const chosen = [];
    const offer = (i) => {
      const c = Math.floor((x[i] + span) / apart);
      const r = Math.floor((y[i] + span) / apart);
      for (let dc = -1; dc <= 1; dc++) {
        for (let dr = -1; dr <= 1; dr++) {
          const other = taken.get(key(c + dc, r + dr));
          if (other === i) return;
          if (other !== undefined && Math.abs(x[other] - x[i]) < apart && Math.abs(y[other] - y[i]) < apart) return;
        }
      }
      taken.set(key(c, r), i);
      chosen.push(i);
    };
    if (level) levels[level - 1].forEach(offer);
    order.forEach(offer);
    levels.push(chosen);
  };
  return (apart) => {
    const level = clamp(Math.floor(2 * Math.log2(span / apart)), 0, 48);
    while (levels.length <= level) {
      if (levels.length && levels.at(-1).length === order.length) levels.push(levels.at(-1));
      else add(levels.length);
    }
    return { chosen: levels[level], apart: span / 2 ** (level / 2) };
  };
};

/** Pictures by address: a few on their way at once, those asked for last first. */
const gallery = (arrived) => {
  const known = new Map();
  let wanted = [];
  let loading = 0;
  const load = () => {
    while (loading < LOADING && wanted.length) {
      const address = wanted.shift();
      if (known.has(address)) continue;
      const picture = new Image();
      known.set(address, null);
      loading++;
      picture.onload = picture.onerror = () => {
        loading--;
        if (picture.naturalWidth) known.set(address, picture);
        if (known.size > KEPT) known.delete(known.keys().next().value);
        arrived();
        load();
      };
      picture.src = address;
    }
  };
  return {
    get: (address) => known.get(address),
    want: (addresses) => {
      wanted = addresses.filter((address) => !known.has(address));
      load();
    },
  };
};

const inside = (polygon, px, py) => {
  let within = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [ax, ay] = polygon[i];
    const [bx, by] = polygon[j];
    if (ay > py !== by > py && px < ((bx - ax) * (py - ay)) / (by - ay) + ax) within = !within;
  }
  return within;
};

// --- the map -------------------------------------------------------------------------------------

/**
 * Draw a map into an element.
 *
 * sent: the scene, see ui/landscape.py. options: words; colour, what it is coloured by at first;
 * thumbnail(i) and href(i), addresses or null; view, as a map before gave it; recoloured(name), opened(id)
 * and selected(ids), which are told.
 * Returns functions that the page calls.
 */
export function drawMap(root, sent, options) {
  const scene = read(sent);
  const { n, x, y } = scene;
  const { words } = options;
  const grid = gridOf(scene);
  const thin = thinner(scene, grid.span, (i) => options.thumbnail(i) !== null);
  const state = { colour: options.colour, only: null, selected: new Set(), lasso: null, tool: "move" };
  const view = { scale: 1, left: 0, top: 0 }; // pixels a unit; the place in the upper left corner
  let shown = []; // thumbnails as they were drawn: [i, centre x, centre y, half]
  let current = null; // the point that is looked at
  let size = [1, 1];

  // What is on the screen.
  root.replaceChildren();
  const stage = element("div", "stage");
  const canvas = element("canvas", "landscape");
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", words.label);
  canvas.setAttribute("aria-description", words.keys);
  const pen = canvas.getContext("2d");
  const bar = element("div", "bar");
  const legend = element("details", "legend");
  const card = element("div", "card");
  card.setAttribute("role", "status");
  card.hidden = true;
  stage.append(canvas, bar, legend, card);
  root.append(stage);

  const button = (className, sign, label, act) => {
    const made = element("button", className, sign);
    made.type = "button";
    made.title = label;
    made.setAttribute("aria-label", label);
    made.addEventListener("click", act);
    bar.append(made);
    return made;
  };
  button("nearer", "+", words.nearer, () => zoom(1.6));
  button("farther", "−", words.farther, () => zoom(1 / 1.6));
  button("whole", "⤢", words.whole, () => fit());
  const lassoButton = options.selected && button("lasso", "", words.lasso, () => use(state.tool === "lasso" ? "move" : "lasso"));
  if (lassoButton) lassoButton.innerHTML = LASSO;
  const clearButton = options.selected && button("clear", "✕", words.clear, () => select([]));
  const choice = element("select", "colour");
  choice.setAttribute("aria-label", words.colour);
  for (const name of Object.keys(scene.colours)) {
    const one = element("option", "", words.by[name]);
    one.value = name;
    choice.append(one);
  }
  choice.addEventListener("change", () => {
    recolour(choice.value);
    options.recoloured?.(choice.value);
  });
  bar.append(choice);

  // --- colours

  const colourOf = (scheme, category) => {
    if (category === 0) return GREY;
    if (scheme.ordered) {
      const share = scheme.names.length > 1 ? (category - 1) / (scheme.names.length - 1) : 0.5;
      return `hsl(${Math.round(265 - 225 * share)} 62% 52%)`;
    }
    return PALETTE[category - 1] ?? GREY;
  };
  let paints = []; // [css, r, g, b] by category
  const recolour = (name) => {
    state.colour = name in scene.colours ? name : Object.keys(scene.colours)[0];
    state.only = null;
    choice.value = state.colour;
    const scheme = scene.colours[state.colour];
    const probe = document.createElement("canvas").getContext("2d");
    paints = Array.from({ length: scheme.names.length + 1 }, (_, category) => {
      probe.fillStyle = colourOf(scheme, category);
      return [probe.fillStyle, ...rgb(probe.fillStyle)];
    });
    drawLegend(scheme);
    if (current !== null) look(current);
    redraw();
  };

  const drawLegend = (scheme) => {
    const wasOpen = legend.open || !legend.childElementCount;
    const listed = scheme.ordered ? scheme.names.length : Math.min(scheme.names.length, PALETTE.length);
    const sum = (from) => scheme.counts.slice(from).reduce((a, b) => a + b, 0);
    const rows = scheme.names.slice(0, listed).map((name, at) => [at + 1, name, scheme.counts[at + 1], paints[at + 1][0]]);
    if (listed < scheme.names.length) rows.push(["rest", words.rest, sum(listed + 1), GREY]);
    if (scheme.counts[0]) rows.push([0, words.none[state.colour], scheme.counts[0], GREY]);
    const list = element("ul", "");
    for (const [category, name, count, paint] of rows) {
      const item = element("button", "category");
      item.type = "button";
      item.setAttribute("aria-pressed", "false");
      const dot = element("i", "");
      dot.style.background = paint;
      item.append(dot, element("span", "", name), element("small", "", count.toLocaleString()));
      item.addEventListener("click", () => {
        state.only = state.only === category ? null : category;
        for (const other of list.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === item && state.only !== null));
        redraw();
      });
      const row = element("li", "");
      row.append(item);
      list.append(row);
    }
    legend.replaceChildren(element("summary", "", words.by[state.colour]), list);
    legend.open = wasOpen && (legend.dataset.drawn ? legend.open : stage.clientWidth > 640);
    legend.dataset.drawn = "1";
  };

  /** Whether a point is among those that count now. */
  const counts = (i, of) => {
    if (state.selected.size && !state.selected.has(i)) return false;
    if (state.only === null) return true;
    return state.only === "rest" ? of[i] > PALETTE.length : of[i] === state.only;
  };

  // --- where one looks

  const toScreen = (i) => [(x[i] - view.left) * view.scale, (y[i] - view.top) * view.scale];
  const toWorld = ([px, py]) => [px / view.scale + view.left, py / view.scale + view.top];
  const free = () => [size[0] - (legend.open && size[0] > 640 ? legend.offsetWidth + 10 : 0), size[1]];
  const whole = () => {
    const [width, height] = free();
    const margin = 0.86; // of the canvas; thumbnails stand over the rim
    return Math.min((width * margin) / Math.max(grid.high[0] - grid.low[0], grid.span / 4), (height * margin) / Math.max(grid.high[1] - grid.low[1], grid.span / 4));
  };
  const fit = () => {
    view.scale = whole();
    view.left = (grid.low[0] + grid.high[0]) / 2 - free()[0] / 2 / view.scale;
    view.top = (grid.low[1] + grid.high[1]) / 2 - free()[1] / 2 / view.scale;
    redraw();
  };
  const zoom = (factor, [px, py] = [size[0] / 2, size[1] / 2]) => {
    const [wx, wy] = toWorld([px, py]);
    view.scale = clamp(view.scale * factor, whole() / 2, Math.max(whole(), MOST / grid.usual) * 16);
    view.left = wx - px / view.scale;
    view.top = wy - py / view.scale;
    redraw();
  };
  const pan = (dx, dy) => {
    view.left = clamp(view.left - dx / view.scale, grid.low[0] - size[0] / view.scale, grid.high[0]);
    view.top = clamp(view.top - dy / view.scale, grid.low[1] - size[1] / view.scale, grid.high[1]);
    redraw();
  };

  // --- drawing

  let asked = 0;
  const redraw = () => {
    asked ||= requestAnimationFrame(() => {
      asked = 0;
      draw();
    });
  };

  const draw = () => {
    const ratio = canvas.width / size[0];
    const { of } = scene.colours[state.colour];
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    const visible = visiblePoints();
    (visible.length <= DISCS ? drawDiscs : drawPixels)(visible, of, ratio);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    drawThumbnails(of);
    if (state.lasso) drawLasso();
  };

  const visiblePoints = () => {
    const [left, top] = toWorld([-8, -8]);
    const [right, bottom] = toWorld([size[0] + 8, size[1] + 8]);
    const found = [];
    grid.visit(left, top, right, bottom, (i) => {
      if (x[i] >= left && x[i] <= right && y[i] >= top && y[i] <= bottom) found.push(i);
    });
    return found;
  };

  const drawDiscs = (visible, of, ratio) => {
    const radius = visible.length > 1500 ? 2.5 : 4;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    for (const i of visible) {
      const [px, py] = toScreen(i);
      pen.globalAlpha = counts(i, of) ? 0.9 : 0.15;
      pen.fillStyle = paints[of[i]][0];
      pen.beginPath();
      pen.arc(px, py, radius, 0, 2 * Math.PI);
      pen.fill();
    }
    pen.globalAlpha = 1;
  };

  // A hundred thousand points are written into the picture themselves: no other way keeps up.
  const drawPixels = (visible, of, ratio) => {
    const { width, height } = canvas;
    const picture = pen.createImageData(width, height);
    const pixels = new Uint32Array(picture.data.buffer);
    const strong = paints.map(([, r, g, b]) => (230 << 24) | (b << 16) | (g << 8) | r);
    const faint = paints.map(([, r, g, b]) => (36 << 24) | (b << 16) | (g << 8) | r);
    const across = Math.max(2, Math.round((visible.length > 30000 ? 1.5 : 2.5) * ratio));
    const scale = view.scale * ratio;
    const plain = !state.selected.size && state.only === null;
    for (const strongOnes of plain ? [true] : [false, true]) {
      for (const i of visible) {
        if (!plain && counts(i, of) !== strongOnes) continue;
        const left = Math.round((x[i] - view.left) * scale - across / 2);
        const top = Math.round((y[i] - view.top) * scale - across / 2);
        if (left < 0 || top < 0 || left + across > width || top + across > height) continue;
        const paint = (strongOnes ? strong : faint)[of[i]];
        for (let r = 0; r < across; r++) pixels.fill(paint, (top + r) * width + left, (top + r) * width + left + across);
      }
    }
    pen.putImageData(picture, 0, 0);
  };

  const thumbnailSize = () => {
    // Where there is room for nearly all, they grow, but slower than the way to them shrinks.
    const enough = LEAST / grid.usual;
    return clamp(LEAST * Math.sqrt(view.scale / enough), LEAST, MOST);
  };

  const drawThumbnails = (of) => {
    const { chosen, apart } = thin(thumbnailSize() / view.scale);
    const across = Math.min(apart * view.scale, MOST * 1.4) - 4;
    const half = across / 2;
    shown = [];
    for (const i of chosen) {
      const [px, py] = toScreen(i);
      if (px > -half && py > -half && px < size[0] + half && py < size[1] + half) shown.push([i, px, py, half]);
      if (shown.length >= AT_ONCE) break;
    }
    const missing = [];
    for (const one of shown) {
      const [i, px, py] = one;
      const address = options.thumbnail(i);
      const picture = pictures.get(address);
      const bright = counts(i, of);
      if (!picture) {
        missing.push(address);
        continue;
      }
      const long = Math.max(picture.naturalWidth, picture.naturalHeight);
      const w = (across * picture.naturalWidth) / long;
      const h = (across * picture.naturalHeight) / long;
      const rim = state.selected.has(i) || i === current ? 4 : 2;
      pen.globalAlpha = bright ? 1 : 0.18;
      pen.fillStyle = paints[of[i]][0];
      pen.beginPath();
      pen.roundRect(px - w / 2, py - h / 2, w, h, 4);
      pen.fill();
      pen.drawImage(picture, px - w / 2 + rim, py - h / 2 + rim, w - 2 * rim, h - 2 * rim);
    }
    pen.globalAlpha = 1;
    canvas.dataset.thumbnails = String(shown.length - missing.length);
    pictures.want(missing);
  };

  const drawLasso = () => {
    pen.beginPath();
    for (const point of state.lasso) pen.lineTo((point[0] - view.left) * view.scale, (point[1] - view.top) * view.scale);
    pen.closePath();
    pen.fillStyle = pen.strokeStyle = getComputedStyle(root).getPropertyValue("--accent") || "#3d5afe";
    pen.globalAlpha = 0.15;
    pen.fill();
    pen.globalAlpha = 1;
    pen.lineWidth = 2;
    pen.stroke();
  };

  const pictures = gallery(redraw);

  // --- looking at one

  const pointAt = ([px, py], reach = REACH) => {
    for (let at = shown.length - 1; at >= 0; at--) {
      const [i, cx, cy, half] = shown[at];
      if (Math.abs(px - cx) <= half && Math.abs(py - cy) <= half && pictures.get(options.thumbnail(i))) return i;
    }
    const [left, top] = toWorld([px - reach, py - reach]);
    const [right, bottom] = toWorld([px + reach, py + reach]);
    let best = null;
    let nearest = reach * reach;
    grid.visit(left, top, right, bottom, (i) => {
      const [sx, sy] = toScreen(i);
      const apart = (sx - px) ** 2 + (sy - py) ** 2;
      if (apart < nearest) [best, nearest] = [i, apart];
    });
    return best;
  };

  const look = (i) => {
    const changed = i !== current;
    current = i;
    card.hidden = i === null;
    canvas.style.cursor = state.tool === "lasso" ? "crosshair" : i === null ? "grab" : "pointer";
    if (i === null) return changed && redraw();
    const lines = [element("b", "", scene.names[i])];
    if (scene.dates[i]) lines.push(element("span", "", scene.dates[i]));
    for (const [name, scheme] of Object.entries(scene.colours)) {
      if (name !== "year" && scheme.of[i]) lines.push(element("span", name, `${words.by[name]}: ${scheme.names[scheme.of[i] - 1]}`));
    }
    const address = options.thumbnail(i);
    if (address !== null) {
      const picture = element("img", "");
      Object.assign(picture, { src: address, alt: "" });
      lines.unshift(picture);
    }
    card.replaceChildren(...lines);
    const [px, py] = toScreen(i);
    const [width, height] = size;
    const right = px < width / 2;
    const low = py < height / 2;
    const gap = clamp(shown.find(([j]) => j === i)?.[3] ?? 8, 8, 130) + 8;
    Object.assign(card.style, {
      left: right ? `${clamp(px + gap, 8, width - 8)}px` : "auto",
      right: right ? "auto" : `${clamp(width - px + gap, 8, width - 8)}px`,
      top: low ? `${clamp(py, 8, height - 8)}px` : "auto",
      bottom: low ? "auto" : `${clamp(height - py, 8, height - 8)}px`,
    });
    return changed && redraw();
  };

  const open = (i, elsewhere = false) => {
    if (options.opened) return elsewhere ? window.open(options.href(i), "_blank", "noopener") : options.opened(scene.ids[i]);
    const [px, py] = toScreen(i);
    return zoom(3, [px, py]);
  };

  // --- choosing many

  const use = (tool) => {
    state.tool = tool;
    lassoButton?.setAttribute("aria-pressed", String(tool === "lasso"));
    canvas.style.cursor = tool === "lasso" ? "crosshair" : "grab";
  };
  const select = (points, told = true) => {
    state.selected = new Set(points);
    if (clearButton) clearButton.hidden = !state.selected.size;
    if (told) options.selected?.([...state.selected].map((i) => scene.ids[i]));
    redraw();
  };
  const lassoed = (polygon) => {
    const found = [];
    for (let i = 0; i < n; i++) if (inside(polygon, x[i], y[i])) found.push(i);
    return found;
  };

  // --- hands

  const pointers = new Map();
  let way = 0;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    way = 0;
    if (state.tool === "lasso") state.lasso = [toWorld(at(event))];
    if (pointers.size > 1) state.lasso = null;
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = at(event);
    const before = pointers.get(event.pointerId);
    if (!before) return look(pointAt(now));
    way += Math.hypot(now[0] - before[0], now[1] - before[1]);
    if (pointers.size === 2) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]) || 1;
      zoom(apart(now) / apart(before), [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
      pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
    } else if (state.lasso) {
      state.lasso.push(toWorld(now));
      redraw();
    } else if (way > CLICK) {
      look(null);
      pan(now[0] - before[0], now[1] - before[1]);
    }
    pointers.set(event.pointerId, now);
    return undefined;
  });
  const lift = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    const polygon = state.lasso;
    state.lasso = null;
    const found = pointAt(at(event));
    if (polygon && way > CLICK) {
      const kept = event.shiftKey ? [...state.selected] : [];
      select([...kept, ...lassoed(polygon)]);
    } else if (event.type === "pointerup" && way <= CLICK && found !== null && !pointers.size) {
      open(found, event.ctrlKey || event.metaKey);
    }
    redraw();
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("pointerleave", () => pointers.size || look(null));
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const pixels = event.deltaY * (event.deltaMode ? 30 : 1);
      zoom(Math.exp(-clamp(pixels, -240, 240) / 500), at(event));
      look(null);
    },
    { passive: false },
  );
  const keys = {
    ArrowLeft: () => pan(80, 0),
    ArrowRight: () => pan(-80, 0),
    ArrowUp: () => pan(0, 80),
    ArrowDown: () => pan(0, -80),
    "+": () => zoom(1.4),
    "=": () => zoom(1.4),
    "-": () => zoom(1 / 1.4),
    0: () => fit(),
    l: () => lassoButton && use(state.tool === "lasso" ? "move" : "lasso"),
    x: () => {
      if (current === null || !options.selected) return;
      const kept = new Set(state.selected);
      kept.delete(current) || kept.add(current);
      select(kept);
    },
    Enter: () => current !== null && open(current),
    Escape: () => select([]),
  };
  canvas.addEventListener("keydown", (event) => {
    const act = keys[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
    // By the keyboard one looks at what is nearest to the middle.
    if (event.key.startsWith("Arrow") || "+=-0".includes(event.key)) {
      draw();
      look(pointAt([size[0] / 2, size[1] / 2], 200));
    }
  });

  const measure = () => {
    const { clientWidth: width, clientHeight: height } = stage;
    if (!width || !height) return;
    const middle = toWorld([size[0] / 2, size[1] / 2]);
    const first = size[0] === 1;
    size = [width, height];
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    if (first && !options.view) return fit();
    if (first) {
      Object.assign(view, options.view);
      return draw();
    }
    view.left = middle[0] - width / 2 / view.scale;
    view.top = middle[1] - height / 2 / view.scale;
    return draw();
  };
  const watching = new ResizeObserver(measure);
  watching.observe(stage);
  use("move");
  select([], false);
  recolour(state.colour);
  measure();
  return {
    recolour: (name) => name !== state.colour && recolour(name),
    view,
    where: (id) => toScreen(scene.ids.indexOf(id)), // pixels; for tests of the page
    stop: () => watching.disconnect(),
  };
}

// --- in the browser's page -----------------------------------------------------------------------

const drawn = new WeakMap();

export default function ({ data, parentElement, setTriggerValue, setStateValue }) {
  const root = parentElement.querySelector(".map");
  const known = drawn.get(root);
  if (known?.address === data.address) return known.map?.recolour(data.colour);
  const mine = { address: data.address, map: null };
  drawn.set(root, mine);
  if (!known) root.replaceChildren(element("p", "waiting", data.words.loading));
  fetch(data.address)
    .then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error(answer.statusText))))
    .then((scene) => {
      if (drawn.get(root) !== mine) return;
      known?.map?.stop();
      mine.map = drawMap(root, scene, {
        view: known?.map?.view,
        words: data.words,
        colour: data.colour,
        thumbnail: (i) => `/thumb/${scene.ids[i]}.jpg?v=${scene.hashes.slice(12 * i, 12 * i + 12)}`,
        href: (i) => `/?photo=${scene.ids[i]}`,
        recoloured: (name) => setTriggerValue("colour", name),
        opened: (id) => setTriggerValue("opened", id),
        selected: (ids) => setStateValue("selected", ids),
      });
      root.map = mine.map;
      if (known) setStateValue("selected", []);
    })
    .catch(() => root.replaceChildren(element("p", "waiting", data.words.unreachable)));
  return undefined;
}
