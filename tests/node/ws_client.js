// A client by the package ws; what it saw is one line of JSON.
// node ws_client.js URL echo SIZE...   messages of these sizes, a text, a ping
// node ws_client.js URL talk WORDS END  END: a close code, none, terminate, wait
const { createHash, randomBytes } = require("crypto");
const WebSocket = require("ws");

const [url, what, ...words] = process.argv.slice(2);
const ws = new WebSocket(url, ["chat", "binary"]);
const seen = { protocol: "", extensions: "", data: "", sizes: [], pong: null };
let take = () => {};

function sha(data) {
    return createHash("sha256").update(data).digest("hex");
}

function receive(count) { // resolves with that many bytes
    let got = [], left = count;
    return new Promise((done) => {
        take = (data) => {
            got.push(data);
            left -= data.length;
            if (left <= 0) done(Buffer.concat(got));
        };
    });
}

async function ask(count, send) {
    const answer = receive(count);
    send();
    return answer;
}

async function echo() {
    for (const size of words.map(Number)) {
        const data = randomBytes(size);
        const got = await ask(size, () => ws.send(data));
        if (sha(got) === sha(data)) seen.sizes.push(size);
    }
    const text = await ask(10, () => {
        ws.send("frag", { fin: false });
        ws.ping("between");
        ws.send("mented", { fin: true });
    });
    seen.data = text.toString();
    ws.close(1000);
}

function talk() {
    const [say, end] = words;
    if (say) ws.send(say);
    take = (data) => { seen.data += data; };
    if (end === "none") ws.close();
    else if (end === "terminate") setImmediate(() => ws.terminate());
    else if (end !== "wait") ws.close(Number(end));
}

ws.on("message", (data, isBinary) => {
    if (!isBinary) throw new Error("a text message");
    take(data);
});
ws.on("pong", (data) => { seen.pong = data.toString(); });
ws.on("error", (error) => { seen.error = error.message; });
ws.on("open", () => {
    Object.assign(seen, { protocol: ws.protocol, extensions: ws.extensions });
    what === "echo" ? echo() : talk();
});
ws.on("close", (code, reason) => {
    console.log(JSON.stringify({ ...seen, code, reason: reason.toString() }));
});
