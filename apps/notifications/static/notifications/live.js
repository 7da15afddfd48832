// Shows the stream of deals as it comes. EventSource reconnects by itself and says where it was; an answer that is no
// stream (a proxy's 502 while the server restarts) ends it, so then it is opened anew from the last position.
"use strict";
{
  const page = document.getElementById("live");
  const state = document.getElementById("live-state");
  const position = document.getElementById("live-position");
  const rows = document.getElementById("live-events");
  const MOST_ROWS = 100;
  const AGAIN_MS = 3000;
  const FINAL = ["forbidden", "session_ended"];
  let last = "";

  const show = (name) => {
    state.className = `live-state ${name}`;
    state.textContent = page.dataset[name];
  };

  const seen = (event) => {
    if (event.lastEventId) {
      last = event.lastEventId;
      position.textContent = last;
    }
  };

  const add = (event) => {
    seen(event);
    const row = document.createElement("tr");
    for (const text of [new Date().toLocaleTimeString(), event.type]) {
      row.insertCell().textContent = text;
    }
    const data = document.createElement("code");
    data.textContent = event.type === "reset" ? page.dataset.reset : event.data;
    row.insertCell().append(data);
    row.dataset.id = event.lastEventId;
    rows.prepend(row);
    while (rows.rows.length > MOST_ROWS) {
      rows.lastElementChild.remove();
    }
  };

  const open = () => {
    const query = last ? `?last_event_id=${encodeURIComponent(last)}` : "";
    const source = new EventSource(page.dataset.address + query);
    source.addEventListener("open", () => show("open"));
    source.addEventListener("heartbeat", seen);
    for (const name of [...page.dataset.names.split(" "), "reset"]) {
      source.addEventListener(name, add);
    }
    source.addEventListener("error", (event) => {
      if (event.data && FINAL.includes(JSON.parse(event.data).code)) {
        source.close();
        show("closed");
      } else if (source.readyState === EventSource.CLOSED) {
        show("lost");
        setTimeout(open, AGAIN_MS);
      } else {
        show("lost");
      }
    });
  };

  show("connecting");
  open();
}
