"use strict";
// A person at full size: the picture, and the bodies in 3D, which turn with mouse, finger and arrow keys.
(() => {
  const dialog = document.getElementById("person");
  const tiles = [...document.querySelectorAll("a.tile")];
  if (!dialog || !tiles.length || !dialog.showModal) return; // the tiles stay links to the files
  const part = (name) => dialog.querySelector(name);
  const data = JSON.parse(document.getElementById("bodies").textContent);
  const canvas = part("canvas"), solid = part(".solid");
  const view = solid ? viewer(canvas, (shown) => part(`[name=${shown}]`).checked) : null;
  let now = 0;

  function show(index) {
    now = (index + tiles.length) % tiles.length;
    const figure = tiles[now].closest("figure"), picture = figure.querySelector("img");
    part("img").src = picture.src;
    part("img").alt = picture.alt;
    part("h2").textContent = figure.dataset.name;
    part(".errors").textContent = figure.dataset.errors;
    part(".files").replaceChildren(...figure.querySelector(".files").cloneNode(true).childNodes);
    const body = data.people[tiles[now].dataset.body];
    if (!solid) return;
    solid.hidden = !body;
    if (!body) return;
    part("[name=labelled]").closest("label").hidden = !body.labelled;
    part(".none").hidden = Boolean(view);
    canvas.hidden = !view;
    if (view) view.load(body, data.faces[body.kind]);
  }

  tiles.forEach((tile, index) => tile.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // the browser's own: a new tab
    event.preventDefault();
    dialog.showModal();
    show(index);
  }));
  part(".next").addEventListener("click", () => show(now + 1));
  part(".before").addEventListener("click", () => show(now - 1));
  part(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => tiles[now].focus());

  function numbers(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Uint16Array(bytes.buffer);
  }

  function normals(points, faces) {
    const out = new Float32Array(points.length);
    for (let i = 0; i < faces.length; i += 3) {
      const [a, b, c] = [3 * faces[i], 3 * faces[i + 1], 3 * faces[i + 2]];
      const u = [0, 1, 2].map((k) => points[b + k] - points[a + k]);
      const v = [0, 1, 2].map((k) => points[c + k] - points[a + k]);
      const across = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
      for (const corner of [a, b, c]) for (let k = 0; k < 3; k++) out[corner + k] += across[k];
    }
    return out;
  }

  // WebGL on a canvas; null where a browser has none.
  function viewer(canvas, isShown) {
    const gl = canvas.getContext("webgl", { antialias: true, preserveDrawingBuffer: true });
    if (!gl) return null;
    const program = gl.createProgram();
    const sources = [
      [gl.VERTEX_SHADER, `attribute vec3 place, normal; uniform mat3 turn; uniform vec3 middle, size; varying vec3 out_normal;
        void main() { vec3 at = turn * (place - middle); out_normal = turn * normal;
          gl_Position = vec4(at.xy * size.xy, -at.z * size.z, 1.0); }`],
      [gl.FRAGMENT_SHADER, `precision mediump float; varying vec3 out_normal; uniform vec3 colour;
        void main() { float light = max(dot(normalize(out_normal), normalize(vec3(-0.45, 0.6, 0.66))), 0.0);
          gl_FragColor = vec4(min(colour * (0.42 + 0.62 * light), 1.0), 1.0); }`],
    ];
    for (const [kind, text] of sources) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) return null;
    gl.useProgram(program);
    gl.enable(gl.DEPTH_TEST);
    const at = (name) => gl.getUniformLocation(program, name);
    const slots = ["place", "normal"].map((name) => gl.getAttribLocation(program, name));
    slots.forEach((slot) => gl.enableVertexAttribArray(slot));
    let meshes = [], buffers = [], middle = [0, 0, 0], reach = 1, yaw = 0, pitch = 0, count = 0;

    function buffer(kind, values) {
      const made = gl.createBuffer();
      buffers.push(made);
      gl.bindBuffer(kind, made);
      gl.bufferData(kind, values, gl.STATIC_DRAW);
      return made;
    }

    function load(body, triangles) {
      buffers.forEach((old) => gl.deleteBuffer(old));
      buffers = [];
      const faces = numbers(triangles);
      buffer(gl.ELEMENT_ARRAY_BUFFER, faces);
      count = faces.length;
      const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
      meshes = ["predicted", "labelled"].filter((name) => body[name]).map((name) => {
        const points = Float32Array.from(numbers(body[name]), (step, i) => body.low[i % 3] + (step / 65535) * body.span);
        points.forEach((value, i) => {
          low[i % 3] = Math.min(low[i % 3], value);
          high[i % 3] = Math.max(high[i % 3], value);
        });
        return { name, places: buffer(gl.ARRAY_BUFFER, points), normals: buffer(gl.ARRAY_BUFFER, normals(points, faces)) };
      });
      middle = low.map((edge, k) => (edge + high[k]) / 2);
      reach = Math.hypot(...low.map((edge, k) => high[k] - edge)) / 2;
      yaw = 0.5;
      pitch = 0.12;
      draw();
    }

    function draw() {
      if (!meshes.length) return;
      const scale = window.devicePixelRatio || 1;
      canvas.width = Math.max(Math.round(canvas.clientWidth * scale), 1);
      canvas.height = Math.max(Math.round(canvas.clientHeight * scale), 1);
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
      gl.uniformMatrix3fv(at("turn"), false, [cy, sp * sy, -cp * sy, 0, cp, sp, sy, -sp * cy, cp * cy]);
      const less = Math.min(canvas.width, canvas.height);
      gl.uniform3f(at("size"), less / canvas.width / reach, less / canvas.height / reach, 0.9 / reach);
      gl.uniform3fv(at("middle"), middle);
      const ink = getComputedStyle(canvas);
      for (const mesh of meshes.filter((one) => isShown(one.name))) {
        const colour = ink.getPropertyValue(`--${mesh.name}`).trim().slice(1);
        gl.uniform3fv(at("colour"), [0, 2, 4].map((i) => parseInt(colour.slice(i, i + 2), 16) / 255));
        [mesh.places, mesh.normals].forEach((values, i) => {
          gl.bindBuffer(gl.ARRAY_BUFFER, values);
          gl.vertexAttribPointer(slots[i], 3, gl.FLOAT, false, 0, 0);
        });
        gl.drawElements(gl.TRIANGLES, count, gl.UNSIGNED_SHORT, 0);
      }
    }

    function turn(right, down) {
      yaw += right;
      pitch = Math.max(-Math.PI / 2, Math.min(Math.PI / 2, pitch + down));
      draw();
    }

    let last = null;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      last = event;
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last || event.pointerId !== last.pointerId || !event.buttons) return;
      turn((event.clientX - last.clientX) / 100, (event.clientY - last.clientY) / 100);
      last = event;
    });
    canvas.addEventListener("keydown", (event) => {
      const ways = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] };
      if (!ways[event.key]) return;
      event.preventDefault();
      turn(...ways[event.key]);
    });
    dialog.addEventListener("change", draw);
    new ResizeObserver(draw).observe(canvas);
    return { load };
  }
})();
