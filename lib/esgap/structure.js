// A structure on the page's canvas, element "view", with NGL; shared by the pages of views.py and picker.py.
// `data` describes it: symbols, colours and radii by element, cell or null, bonds, tetrahedra, highlight, arrows, density or null,
// tints (colours of single atoms) if there are any; x its positions.
const element = id => document.getElementById(id);

// Pages lie at different depths; Sphinx says on each where its root is. The base URL of a srcdoc page is its parent's.
// A Jupyter server hands out the file if it was started in the checkout.
function whereNGL() {
  const jupyter = window.parent.document.getElementById("jupyter-config-data");
  if (jupyter) return JSON.parse(jupyter.textContent).baseUrl + "files/_vendor/ngl/ngl.js";
  return (window.parent.document.documentElement.dataset.content_root || "./") + "_static/ngl/ngl.js";
}

function loadNGL(draw) {
  const script = document.createElement("script");
  script.src = whereNGL();
  script.onload = draw;
  script.onerror = () => {
    element("view").textContent = "The 3-D view needs ngl.js, which is part of the built book (in Jupyter: start it in the checkout).";
  };
  document.head.append(script);
}

const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const unpack = text => new Float32Array(bytes(text).buffer);

const pick = (x, atoms) => Float32Array.from(atoms.flatMap(i => [x[3 * i], x[3 * i + 1], x[3 * i + 2]]));
const repeat = (atoms, value) => Float32Array.from(atoms.flatMap(value));

function rgb(colour) {
  const hex = parseInt(colour.slice(1), 16);
  return [hex >> 16 & 255, hex >> 8 & 255, hex & 255].map(c => c / 255);
}

// One normal per triangle: flat faces.
function normals(x) {
  const n = new Float32Array(x.length);
  for (let t = 0; t < x.length; t += 9) {
    const u = [0, 1, 2].map(k => x[t + 3 + k] - x[t + k]), v = [0, 1, 2].map(k => x[t + 6 + k] - x[t + k]);
    const w = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
    const length = Math.hypot(...w) || 1;
    for (let k = 0; k < 9; k++) n[t + k] = w[k % 3] / length;
  }
  return n;
}

// Each part: a buffer, what to hand to it when the frame changes, and how it looks.
function makeParts(data, x) {
  const parts = {}, everyAtom = data.symbols.map((_, i) => i);
  const tint = i => rgb((data.tints || {})[i] || data.colours[data.symbols[i]]);
  const radius = i => data.radii[data.symbols[i]];
  const add = (name, buffer, update, look = {}) => { parts[name] = {buffer, update, look}; };
  const atoms = {position: x.slice(), color: repeat(everyAtom, tint), radius: repeat(everyAtom, radius)};
  add("atoms", new NGL.SphereBuffer(atoms), y => ({position: y.slice()}));
  const p = data.bonds.map(b => b[0]), s = data.bonds.map(b => b[1]);
  const ends = y => ({position1: pick(y, p), position2: pick(y, s)});
  if (p.length) {
    const size = new Float32Array(p.length).fill(0.12);
    add("bonds", new NGL.CylinderBuffer({...ends(x), color: repeat(p, tint), color2: repeat(s, tint), radius: size}), ends);
  }
  // Corners of the triangles of all tetrahedra, as atom indices.
  const corners = data.tetrahedra.flatMap(([a, b, c, d]) => [a, b, c, a, b, d, a, c, d, b, c, d]);
  if (corners.length) {
    const faces = y => { const q = pick(y, corners); return {position: q, normal: normals(q)}; };
    const purple = repeat(corners, () => [0.8, 0.47, 0.65]);
    add("polyhedra", new NGL.MeshBuffer({...faces(x), color: purple}), faces, {opacity: 0.4, side: "double"});
  }
  if (data.highlight.length) {
    const chosen = data.highlight, colour = rgb(data.haloColour || "#d90080");
    const halo = {color: repeat(chosen, () => colour), radius: repeat(chosen, i => radius(i) + 0.35)};
    const where = y => ({position: pick(y, chosen)});
    add("halo", new NGL.SphereBuffer({...where(x), ...halo}), where, {opacity: 0.45});
  }
  const label = (at, text, zOffset) => new NGL.TextBuffer(
    {position: at, text, color: new Float32Array(at.length), size: new Float32Array(text.length).fill(1.4)},
    {showBorder: true, borderColor: "white", borderWidth: 0.2, attachment: "middle-center", zOffset});
  add("names", label(x.slice(), data.symbols, 1), y => ({position: y.slice()}));
  if (data.cell) {
    const longest = Math.max(...data.cell.map(v => Math.hypot(...v)));  // names lie in front, yet within the picture
    const tips = Float32Array.from(data.cell.flat(), v => 1.04 * v);
    add("axes", label(tips, ["a", "b", "c"], 0.55 * longest), () => ({}));
  }
  return parts;
}

function fixedShape(data) {
  const shape = new NGL.Shape("cell and arrows", {aspectRatio: 3});
  if (data.cell) {
    const at = (...ijk) => cellCorner(data.cell, ...ijk);
    const edge = (u, v) => shape.addCylinder(u, v, [0.35, 0.35, 0.35], 0.05, "unit cell");
    for (const i of [0, 1]) for (const j of [0, 1]) {
      edge(at(0, i, j), at(1, i, j)); edge(at(i, 0, j), at(i, 1, j)); edge(at(i, j, 0), at(i, j, 1));
    }
  }
  for (const [from, to, colour] of data.arrows) shape.addArrow(from, to, rgb(colour || "#000000"), 0.18, "arrow");
  return shape;
}

const cellCorner = (cell, i, j, k) => [0, 1, 2].map(d => i * cell[0][d] + j * cell[1][d] + k * cell[2][d]);

// Look along the shortest cell vector, slightly from above; the longest one lies across. NGL's camera looks along +z.
function rotation(cell) {
  if (!cell) return new NGL.Matrix4();
  const [depth, , across] = cell.map(v => new NGL.Vector3(...v)).sort((u, v) => u.length() - v.length());
  const z = depth.negate().normalize(), y = new NGL.Vector3().crossVectors(z, across.negate()).normalize();
  const x = new NGL.Vector3().crossVectors(y, z);
  const tilt = new NGL.Matrix4().makeRotationFromEuler(new NGL.Euler(-0.35, 0.25, 0));
  return tilt.multiply(new NGL.Matrix4().makeBasis(x, y, z).transpose());
}

// Turn the structure, centre it and let it fill the canvas: NGL's orthographic camera sees 2 d tan(20 deg) of height.
function home(stage, data, x) {
  const turn = rotation(data.cell), box = new NGL.Box3();
  const points = data.symbols.map((_, i) => [x[3 * i], x[3 * i + 1], x[3 * i + 2]]);
  if (data.cell) for (const i of [0, 1]) for (const j of [0, 1]) points.push(...[0, 1].map(k => cellCorner(data.cell, i, j, k)));
  for (const point of points) box.expandByPoint(new NGL.Vector3(...point).applyMatrix4(turn));
  const size = box.getSize(new NGL.Vector3()), centre = box.getCenter(new NGL.Vector3()).applyMatrix4(turn.clone().transpose());
  const canvas = element("view");
  const height = Math.max(size.y, size.x * canvas.clientHeight / canvas.clientWidth) + 1.5;  // A, atoms have a radius
  const d = height / (2 * Math.tan(Math.PI / 9));
  stage.viewerControls.orient(turn.scale(new NGL.Vector3(d, d, d)).setPosition(centre.negate()));
}

function makeStage() {
  const stage = new NGL.Stage("view", {backgroundColor: "white", cameraType: "orthographic", fogNear: 65, clipDist: 0, tooltip: false});
  stage.mouseObserver.handleScroll = false;  // the wheel scrolls the page
  return stage;
}

// Put the parts, and what does not move, on the stage -> components by name.
function show(stage, data, parts) {
  const components = {};
  for (const [name, part] of Object.entries(parts)) {
    const shape = new NGL.Shape(name);
    shape.addBuffer(part.buffer);
    components[name] = stage.addComponentFromObject(shape);
    components[name].addRepresentation("buffer", part.look);
  }
  stage.addComponentFromObject(fixedShape(data)).addRepresentation("buffer");
  return components;
}

// Roots of a density that repeats with the cell, 255 the highest, as NGL's volume, of which x is the fastest index. In
// the outermost layers of a grid NGL draws nothing: one lies before the cell, and two behind, the first of which closes it.
function periodicVolume({shape, roots}, cell) {
  const [nx, ny, nz] = shape, root = bytes(roots), values = new Float32Array((nx + 3) * (ny + 3) * (nz + 3));
  let n = 0;
  for (let k = -1; k < nz + 2; k++) for (let j = -1; j < ny + 2; j++) for (let i = -1; i < nx + 2; i++)
    values[n++] = root[(i + nx) % nx + nx * ((j + ny) % ny + ny * ((k + nz) % nz))];
  const volume = new NGL.Volume("density", "", values, nx + 3, ny + 3, nz + 3);
  const steps = cell.map((v, d) => new NGL.Vector3(...v).divideScalar(shape[d]));
  const first = steps[0].clone().add(steps[1]).add(steps[2]).negate();
  volume.setMatrix(new NGL.Matrix4().makeBasis(...steps).setPosition(first));
  return volume;
}

// The surface of data.density -> its component, and what draws it at another level.
function showDensity(stage, data) {
  const {levels, percent, highest, look} = data.density, root = level => 255 * Math.sqrt(level / highest);
  const component = stage.addComponentFromObject(periodicVolume(data.density, data.cell));
  const surface = component.addRepresentation("surface", {...look, isolevel: root(levels[percent - 1])});
  return [component, level => surface.setParameters({isolevel: root(level)})];
}

function keys(stage) {
  const turns = {ArrowLeft: [0, 1, 0, -1], ArrowRight: [0, 1, 0, 1], ArrowUp: [1, 0, 0, -1], ArrowDown: [1, 0, 0, 1]};
  element("view").addEventListener("keydown", event => {
    const turn = turns[event.key], zoom = {"+": 0.1, "=": 0.1, "-": -0.1}[event.key];
    if (turn) stage.viewerControls.spin(turn.slice(0, 3), 0.1 * turn[3]);
    else if (zoom) stage.viewerControls.zoom(zoom);
    else return;
    event.preventDefault();
  });
}
