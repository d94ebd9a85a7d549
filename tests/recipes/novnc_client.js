// The connection of noVNC's client library, without its screen: the handshake of
// RFC 6143 up to the desktop's name, which is printed.
// node novnc_client.js PACKAGE URL
globalThis.window = globalThis;
globalThis.WebSocket ??= require("ws"); // before Node.js 22
const Websock = require(process.argv[2] + "/lib/websock.js").default;

const sock = new Websock();
let step = 0;

function fail(why) {
    console.error(why);
    process.exit(1);
}

function advance() {
    if (step === 0) {
        if (sock.rQwait("version", 12)) return false;
        const version = sock.rQshiftStr(12);
        if (version !== "RFB 003.008\n") fail("version " + version);
        sock.sQpushString(version);
    } else if (step === 1) {
        if (sock.rQwait("security", 2)) return false;
        if (sock.rQshift8() !== 1 || sock.rQshift8() !== 1) fail("security types");
        sock.sQpush8(1);
    } else if (step === 2) {
        if (sock.rQwait("result", 4)) return false;
        if (sock.rQshift32() !== 0) fail("security result");
        sock.sQpush8(1);
    } else {
        if (sock.rQwait("init", 24)) return false;
        const width = sock.rQshift16();
        const height = sock.rQshift16();
        sock.rQskipBytes(16);
        const length = sock.rQshift32();
        if (sock.rQwait("name", length, 24)) return false;
        console.log(`${width}x${height} ${sock.rQshiftStr(length)}`);
        sock.close();
        return false;
    }
    sock.flush();
    step += 1;
    return true;
}

sock.on("message", () => { while (advance()); });
sock.on("close", () => process.exit(step === 3 ? 0 : 1));
sock.on("error", () => fail("WebSocket error"));
sock.open(process.argv[3], ["binary"]);
