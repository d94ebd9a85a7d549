// Echoes messages as they came, by the package ws; its port is the first line, then each
// connection that has ended is a line of JSON. node echo_server.js deflate|plain
const { WebSocketServer } = require("ws");

const server = new WebSocketServer({
    host: "127.0.0.1",
    port: 0,
    perMessageDeflate: process.argv[2] === "deflate" && { threshold: 0 },
});

server.on("connection", (ws) => {
    const seen = { extensions: ws.extensions, texts: 0, count: 0 };
    ws.on("message", (data, binary) => {
        seen.count += 1;
        seen.texts += binary ? 0 : 1;
        ws.send(data, { binary });
    });
    ws.on("error", (error) => { seen.error = error.message; });
    ws.on("close", (code, reason) => {
        console.log(JSON.stringify({ ...seen, code, reason: reason.toString() }));
    });
});
server.on("listening", () => console.log(JSON.stringify(server.address().port)));
