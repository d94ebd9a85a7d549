"""The HTTP side of the forward proxy, byte by byte."""



from tests.support.http import answering, proxy
from tests.support.servers import both_loops, run_on

GET = b"GET http://a.test/x?y HTTP/1.1\r\nHost: a.test\r\n\r\n"
GET_UP = b"GET /x?y HTTP/1.1\r\nHost: a.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@both_loops
def test_request_in_absolute_form(loop_name):
    async def main():
        async with proxy() as serving:
            await serving.origins.add("a.test", answering((GET_UP, OK)))
            client = await serving.client()
            await client.send(GET)
            await client.expect(OK)
            assert serving.origins.opened == [("a.test", 80)]

    run_on(loop_name, main())
