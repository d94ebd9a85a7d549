// Sends messages to an echo by the package ws and compares; one line of JSON.
// node echo_client.js URL deflate|plain SIZE...
const { randomBytes } = require("crypto");
const WebSocket = require("ws");

const [url, packing, ...sizes] = process.argv.slice(2);
const ws = new WebSocket(url, {
    perMessageDeflate: packing === "deflate" && { threshold: 0 },
});
const seen = { extensions: "", same: 0, pong: null };
let take = () => {};

function back(send) { // resolves with the next message
    return new Promise((done) => {
        take = (data, binary) => done([data, binary]);
        send();
    });
}

async function compare(want, binary, send) {
    const [data, isBinary] = await back(send);
    if (data.equals(want) && isBinary === binary) seen.same += 1;
}

async function talk() {
    seen.extensions = ws.extensions;
    for (const size of sizes.map(Number)) {
        const noise = randomBytes(size);
        await compare(noise, true, () => ws.send(noise));
        const text = "grün, ".repeat(Math.ceil(size / 7));
        await compare(Buffer.from(text), false, () => ws.send(text));
    }
    await compare(Buffer.from("fragmented"), false, () => {
        ws.send("frag", { fin: false });
        ws.ping("between");
        ws.send("mented", { fin: true });
    });
    ws.close(3000, "enough");
}

ws.on("open", talk);
ws.on("message", (data, binary) => take(data, binary));
ws.on("pong", (data) => { seen.pong = data.toString(); });
ws.on("error", (error) => { seen.error = error.message; });
ws.on("close", (code, reason) => {
    console.log(JSON.stringify({ ...seen, code, reason: reason.toString() }));
});
