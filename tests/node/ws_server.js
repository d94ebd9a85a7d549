// A server by the package ws on a free port of 127.0.0.1, which is the first line;
// each end of a connection is a line of JSON. The first message says what to do:
// echo | end CODE | drop | late MILLISECONDS | ping
const { WebSocketServer } = require("ws");

const server = new WebSocketServer({
    host: "127.0.0.1",
    port: 0,
    perMessageDeflate: true,
    maxPayload: 32 * 1024, // what stw promises to keep to
});

function obey(ws, command, word) {
    if (command === "echo") {
        ws.on("message", (data) => ws.send(data));
        ws.send("ready");
    } else if (command === "end") {
        ws.send("last words");
        word === "none" ? ws.close() : ws.close(Number(word), "so be it");
    } else if (command === "drop") {
        ws.send("last words", () => ws.terminate());
    } else if (command === "late") {
        setTimeout(() => ws.send("late answer"), Number(word));
    } else {
        ws.on("pong", (data) => ws.send(data));
        ws.ping("are you there");
    }
}

server.on("connection", (ws) => {
    const seen = { extensions: ws.extensions, bytes: 0 };
    ws.once("message", (first) => obey(ws, ...first.toString().split(" ")));
    ws.on("message", (data, isBinary) => {
        seen.bytes += data.length;
        seen.binary = isBinary;
    });
    ws.on("error", (error) => { seen.error = error.message; });
    ws.on("close", (code, reason) => {
        console.log(JSON.stringify({ ...seen, code, reason: reason.toString() }));
    });
});
server.on("listening", () => console.log(JSON.stringify(server.address().port)));
