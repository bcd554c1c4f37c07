// Draws receivers, fixes, ellipses and tracks on NiceGUI's Leaflet map. The server says what is new; the answer to
// `update` tells it what has arrived, so that nothing piles up before a slow page.

const COLOURS = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2", "#bcbd22", "#393b79"];
const STEPS_DEG = [30, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001];
const LINES_WANTED = 7;
const PADDING = [40, 40];
const CLOSEST_FIT = 13;
const SCALE_BAR_PX = 110;

// The newest ellipses are filled; many fills over each other would hide all that is beneath.
const FILLED = { weight: 1.5, opacity: 0.9, fillOpacity: 0.1 };
const FAINT = { weight: 1, opacity: 0.25, fillOpacity: 0 };
const SELECTED = { weight: 3, opacity: 0.9, fillOpacity: 0.1 };

export default {
  template: "<span></span>",
  props: { mapId: Number, world: String, tiles: String, attribution: String },

  data() {
    return { seen: 0 };
  },

  methods: {
    // Called once the map is there. Leaflet's objects stay out of Vue's reach: proxies would break them.
    start() {
      if (this.own) return true;
      const map = getElement(this.mapId).map;
      this.own = { map, sessions: new Map(), receivers: new Map(), ellipses: "newest", fits: true, open: null };
      this.own.paint = L.canvas({ padding: 0.3, tolerance: 4 });
      this.drawWorld(map);
      this.drawTools(map);
      map.on("dragstart", () => (this.own.fits = false));
      map.getContainer().addEventListener("wheel", () => (this.own.fits = false), { passive: true });
      map.on("popupclose", () => this.unselect());
      this.clock = setInterval(() => this.tellAge(), 1000);
      return true;
    },

    update(text) {
      const news = JSON.parse(text);
      const touched = new Set();
      for (const [name, session] of this.own.sessions) {
        const same = Object.hasOwn(news.sessions, name) && news.sessions[name][1] === session.number;
        if (!same) this.dropSession(name, session); // Gone, or gone and begun anew.
      }
      for (const [name, [first, colour]] of Object.entries(news.sessions)) {
        const session = this.own.sessions.get(name) ?? this.newSession(name, colour);
        if (this.dropFixes(session, first)) touched.add(session);
      }
      for (const fix of news.fixes) {
        const session = this.own.sessions.get(fix.session);
        if (session && !session.fixes.has(fix.number)) {
          this.addFix(session, fix);
          touched.add(session);
        }
      }
      for (const session of touched) this.drawSession(session);
      if (news.receivers) this.drawReceivers(news.receivers);
      if (this.own.fits && (news.fixes.length || news.receivers)) this.fit(false);
      this.tellCounts();
      this.seen = news.change;
      return this.seen;
    },

    showEllipses(which) {
      this.own.ellipses = which;
      for (const session of this.own.sessions.values()) this.drawRings(session);
      this.tellCounts();
    },

    goTo(name) {
      const session = this.own.sessions.get(name);
      if (!session) return;
      this.own.fits = false;
      this.own.map.fitBounds(L.latLngBounds([...session.fixes.values()].map((fix) => fix.at)), {
        padding: PADDING,
        maxZoom: CLOSEST_FIT,
      });
      this.select(newest(session));
    },

    // --- Sessions ---------------------------------------------------------------------------------------------------

    newSession(name, colour) {
      const session = { name, number: colour, colour: COLOURS[colour], fixes: new Map(), rings: new Map() };
      if (name) {
        session.track = L.polyline([], {
          renderer: this.own.paint, color: session.colour, weight: 2, opacity: 0.55, interactive: false,
        }).addTo(this.own.map);
      }
      this.own.sessions.set(name, session);
      return session;
    },

    addFix(session, fix) {
      fix.dot = L.circleMarker(fix.at, {
        renderer: this.own.paint, radius: 3.5, color: session.colour, weight: 1, fillColor: session.colour, fillOpacity: 0.7,
      });
      fix.dot.on("click", () => this.select(fix)).addTo(this.own.map);
      session.fixes.set(fix.number, fix);
    },

    dropFixes(session, first) {
      let dropped = false;
      for (const [number, fix] of session.fixes) {
        if (number >= first) break; // A Map keeps the order of insertion, and numbers rise.
        fix.dot.remove();
        session.fixes.delete(number);
        dropped = true;
      }
      return dropped;
    },

    dropSession(name, session) {
      this.dropFixes(session, Infinity);
      for (const ring of session.rings.values()) ring.remove();
      session.track?.remove();
      this.own.sessions.delete(name);
    },

    drawSession(session) {
      const last = newest(session);
      if (session.last !== last) {
        session.last?.dot.setStyle({ color: session.colour, weight: 1 }).setRadius(3.5);
        last?.dot.setStyle({ color: "#111", weight: 2 }).setRadius(6).bringToFront();
        session.last = last;
      }
      session.track?.setLatLngs(byTime(session).map((fix) => fix.at));
      this.drawRings(session);
    },

    drawRings(session) {
      const wanted = this.own.ellipses === "all" ? [...session.fixes.values()] : [];
      if (this.own.ellipses === "newest" && session.last) wanted.push(session.last);
      const numbers = new Set(wanted.map((fix) => fix.number));
      for (const [number, ring] of session.rings) {
        if (!numbers.has(number)) {
          ring.remove();
          session.rings.delete(number);
        }
      }
      for (const fix of wanted) {
        if (!session.rings.has(fix.number)) session.rings.set(fix.number, this.ringsOf(fix, session.colour, FAINT));
      }
      session.rings.get(session.filled)?.setStyle(FAINT);
      session.filled = session.last?.number;
      session.rings.get(session.filled)?.setStyle(FILLED);
    },

    ringsOf(fix, colour, look) {
      const group = L.featureGroup();
      for (const { geometry } of fix.rings) {
        const style = { renderer: this.own.paint, color: colour, fillColor: colour, smoothFactor: 0, ...look };
        L.geoJSON(geometry, { style: () => style, ...style }).addTo(group);
      }
      group.on("click", (event) => {
        L.DomEvent.stopPropagation(event);
        this.select(fix);
      });
      group.addTo(this.own.map);
      group.eachLayer((layer) => layer.bringToBack()); // Beneath the dots, so that these can be hit.
      return group;
    },

    // --- What a click shows -----------------------------------------------------------------------------------------

    select(fix) {
      this.unselect();
      const session = this.own.sessions.get(fix.session);
      const age = document.createElement("span");
      const table = document.createElement("table");
      table.className = "fix-details";
      addRow(table, "Session", fix.session || "none");
      addRow(table, "Captured", fix.captured ?? "not stated");
      addRow(table, "Age", age);
      for (const [label, text] of fix.rows) addRow(table, label, text);
      const popup = L.popup({ maxWidth: 420, autoPan: true }).setLatLng(fix.at).setContent(table);
      popup.openOn(this.own.map);
      this.own.open = { fix, age, rings: this.ringsOf(fix, session?.colour ?? "#111", SELECTED) };
      this.tellAge();
    },

    unselect() {
      this.own.open?.rings.remove();
      this.own.open = null;
    },

    tellAge() {
      if (!this.own?.open) return;
      const { fix, age } = this.own.open;
      const then = fix.age_ms === null ? "not known" : `${duration(fix.age_ms / 1000)} when located`;
      age.textContent = fix.captured === null ? then : `${then}; ${duration(Date.now() / 1000 - fix.time_s)} now`;
    },

    // --- Receivers --------------------------------------------------------------------------------------------------

    drawReceivers(places) {
      for (const marker of this.own.receivers.values()) marker.remove();
      this.own.receivers.clear();
      for (const { id, at, altitude_m } of places) {
        const icon = L.divIcon({ className: "receiver", iconSize: [14, 14], html: "▲" });
        const label = document.createElement("span");
        label.textContent = id;
        const table = document.createElement("table");
        table.className = "fix-details";
        addRow(table, "Receiver", id);
        addRow(table, "Position", `${at[0].toFixed(6)}° ${at[1].toFixed(6)}°`);
        if (altitude_m !== null) addRow(table, "Altitude", `${altitude_m} m`);
        const marker = L.marker(at, { icon, keyboard: false, alt: `receiver ${id}` }).bindPopup(table);
        marker.bindTooltip(label, { permanent: places.length <= 40, direction: "right", offset: [6, 0], className: "receiver-name" });
        this.own.receivers.set(id, marker.addTo(this.own.map));
      }
    },

    // --- The map itself ---------------------------------------------------------------------------------------------

    fit(forced) {
      const points = [...this.own.receivers.values()].map((marker) => marker.getLatLng());
      for (const session of this.own.sessions.values()) for (const fix of session.fixes.values()) points.push(fix.at);
      if (!points.length) return;
      const bounds = L.latLngBounds(points);
      if (forced || !this.own.fitted?.contains(bounds)) {
        this.own.fitted = bounds.pad(0.1);
        this.own.map.fitBounds(this.own.fitted, { padding: PADDING, maxZoom: CLOSEST_FIT, animate: false });
      }
    },

    drawTools(map) {
      map.attributionControl.setPrefix("Leaflet").addAttribution("Natural Earth");
      L.control.scale({ imperial: false }).addTo(map);
      const Fit = L.Control.extend({
        onAdd: () => {
          const bar = L.DomUtil.create("div", "leaflet-bar");
          const button = L.DomUtil.create("a", "", bar);
          button.href = "#";
          button.role = "button";
          button.title = "Show everything, and keep it in view";
          button.textContent = "⤢";
          L.DomEvent.disableClickPropagation(bar).on(button, "click", (event) => {
            L.DomEvent.preventDefault(event);
            this.own.fits = true;
            this.fit(true);
          });
          return bar;
        },
      });
      new Fit({ position: "topleft" }).addTo(map);
      const Counts = L.Control.extend({
        onAdd: () => (this.own.counts = L.DomUtil.create("div", "map-counts")),
      });
      new Counts({ position: "bottomright" }).addTo(map);
      this.tellCounts();
    },

    tellCounts() {
      let fixes = 0;
      let ellipses = 0;
      for (const session of this.own.sessions.values()) {
        fixes += session.fixes.size;
        for (const ring of session.rings.values()) ellipses += ring.getLayers().length;
      }
      const counts = { receivers: this.own.receivers.size, sessions: this.own.sessions.size, fixes, ellipses };
      this.own.counts.textContent = Object.entries(counts).map(([name, count]) => `${count} ${name}`).join(" · ");
    },

    async drawWorld(map) {
      for (const [name, zIndex] of [["world", 150], ["graticule", 210]]) {
        map.createPane(name).style.cssText = `z-index: ${zIndex}; pointer-events: none`;
      }
      if (this.tiles) L.tileLayer(this.tiles, { attribution: this.attribution, maxZoom: 19 }).addTo(map);
      this.own.graticule = L.layerGroup().addTo(map);
      this.own.lines = L.canvas({ pane: "graticule", padding: 0.3 });
      map.on("moveend", () => this.drawGraticule(map));
      this.drawGraticule(map);
      const world = await (await fetch(window.path_prefix + this.world)).json();
      const looks = {
        land: { stroke: true, color: "#8a8f98", weight: 1, fillColor: "#f4f1e8", fillOpacity: 1 },
        border: { color: "#a58fb0", weight: 1.2, dashArray: "5 4" },
      };
      const renderer = L.canvas({ pane: "world", padding: 0.3 });
      for (const feature of world.features) {
        L.geoJSON(feature, { pane: "world", renderer, interactive: false, style: () => looks[feature.properties.kind] }).addTo(map);
      }
    },

    drawGraticule(map) {
      const bounds = map.getBounds();
      const span = Math.max(bounds.getNorth() - bounds.getSouth(), bounds.getEast() - bounds.getWest());
      const step = STEPS_DEG.find((one) => span / one >= LINES_WANTED) ?? STEPS_DEG.at(-1);
      const digits = Math.max(0, -Math.floor(Math.log10(step)));
      const style = { pane: "graticule", renderer: this.own.lines, color: "#5b6b7b", weight: 0.5, opacity: 0.45, interactive: false };
      this.own.graticule.clearLayers();
      const [south, north] = [Math.max(bounds.getSouth(), -85), Math.min(bounds.getNorth(), 85)];
      const [west, east] = [bounds.getWest(), bounds.getEast()];
      const draw = (points, at, text) => {
        L.polyline(points, style).addTo(this.own.graticule);
        const x = map.latLngToContainerPoint(at).x;
        if (x > 0 && x < SCALE_BAR_PX && at[0] === south) return; // The scale bar is there.
        const icon = L.divIcon({ className: "graticule-label", iconSize: null, html: text });
        L.marker(at, { icon, interactive: false, keyboard: false, pane: "graticule" }).addTo(this.own.graticule);
      };
      for (let i = Math.ceil(south / step); i * step <= north; i++) {
        draw([[i * step, west], [i * step, east]], [i * step, west], `${degrees(i * step, digits)} ${i < 0 ? "S" : "N"}`);
      }
      for (let i = Math.ceil(west / step); i * step <= east; i++) {
        draw([[south, i * step], [north, i * step]], [south, i * step], `${degrees(i * step, digits)} ${i < 0 ? "W" : "E"}`);
      }
    },
  },

  unmounted() {
    clearInterval(this.clock);
  },
};

function byTime(session) {
  return [...session.fixes.values()].sort((one, other) => one.time_s - other.time_s || one.number - other.number);
}

function newest(session) {
  return byTime(session).at(-1);
}

function degrees(value, digits) {
  return `${Math.abs(value).toFixed(digits)}°`;
}

function duration(seconds) {
  const size = Math.abs(seconds);
  for (const [unit, length] of [["years", 31557600], ["days", 86400], ["h", 3600], ["min", 60]]) {
    if (size >= 2 * length) return `${(seconds / length).toFixed(1)} ${unit}`;
  }
  return size >= 1 ? `${seconds.toFixed(1)} s` : `${(seconds * 1000).toFixed(0)} ms`;
}

// Names come from messages: they are text, never HTML.
function addRow(table, label, value) {
  const row = table.insertRow();
  const head = document.createElement("th");
  head.textContent = label;
  row.append(head);
  row.insertCell().append(value);
}
