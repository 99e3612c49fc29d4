"""WS /v1/realtime: a few JSON frames, enough to see a websocket pass.

It echoes the text of the conversation as response.text.delta and response.text.done. No audio.
Never here: the frames of other routes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from aiohttp import WSMsgType, web

from proxy.demo import draft, fields
from proxy.demo.call import Call
from proxy.demo.draft import Wish
from proxy.demo.errors import Refused
from proxy.demo.fields import Json

PROTOCOLS: Final = ("realtime", "openai-beta.realtime-v1")
_MAX_FRAME: Final = 1024 * 1024
_MAX_TURNS: Final = 1000


class _Session:
    """The frames of one connection. Text of the user goes in, frames come out."""

    def __init__(self, call: Call, model: str) -> None:
        self._call = call
        self._model = model
        self._turns: list[tuple[str, str]] = []
        self._events = 0
        self._replies = 0

    def frame(self, kind: str, **rest: object) -> Json:
        """A server frame with the next event id."""
        self._events += 1
        return {"type": kind, "event_id": f"event_{self._events}"} | rest

    def opened(self) -> Json:
        return self.frame("session.created", session=self._session())

    def _session(self) -> Json:
        return {"id": self._call.id("sess_"), "object": "realtime.session", "model": self._model}

    def problem(self, message: str) -> Json:
        """An error frame; the session goes on."""
        error = {"type": "invalid_request_error", "code": None, "message": message, "param": None}
        return self.frame("error", error=error)

    def answer(self, raw: str) -> Iterator[Json]:
        """The frames that answer one client frame."""
        try:
            body = fields.loads(raw.encode("utf-8", "replace"))
            yield from self._known(body)
        except Refused as refused:
            yield self.problem(refused.message)

    def _known(self, body: Json) -> Iterator[Json]:
        match body.get("type"):
            case "session.update":
                yield self.frame("session.updated", session=self._session())
            case "conversation.item.create":
                item = fields.obj(body, "item")
                role, text = fields.string(item, "role", "user"), fields.text_of(item.get("content"))
                if len(self._turns) >= _MAX_TURNS:
                    raise Refused(400, "The conversation is too long for the demo backend.")
                self._turns.append((role, text))
                shown = item | {"id": fields.string(item, "id") or f"item_{len(self._turns)}"}
                yield self.frame("conversation.item.created", previous_item_id=None, item=shown)
            case "response.create":
                yield from self._response()
            case _:
                raise Refused(400, "This type of frame is not known.")

    def _response(self) -> Iterator[Json]:
        self._replies += 1
        name, item = f"resp_{self._replies}", f"msg_{self._replies}"
        k = self._call.knobs
        said = fields.last_user(self._turns)
        if k.say is None and not k.pii and k.tokens is None:
            k = replace(k, echo=True)
        one = draft.write(Wish(("realtime", self._replies, *self._turns), k, said))
        place = {"response_id": name, "item_id": item, "output_index": 0, "content_index": 0}
        head = {"id": name, "object": "realtime.response"}
        yield self.frame("response.created", response=head | {"status": "in_progress", "output": []})
        for text in one.text:
            yield self.frame("response.text.delta", **place, delta=text)
        yield self.frame("response.text.done", **place, text=one.content)
        part = {"type": "text", "text": one.content}
        output: Json = {"id": item, "type": "message", "role": "assistant", "status": "completed"}
        output |= {"content": [part]}
        yield self.frame("response.done", response=head | {"status": "completed", "output": [output]})


async def realtime(call: Call) -> web.StreamResponse:
    """Serve one websocket. The model is a query parameter. Raises Refused before the upgrade."""
    model = call.model(call.request.query.get("model"))
    if call.request.headers.get("Upgrade", "").lower() != "websocket":
        raise Refused(426, "This route speaks websocket.", headers={"Upgrade": "websocket"})
    await call.gate()
    socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=_MAX_FRAME, timeout=1.0)
    await socket.prepare(call.request)
    session = _Session(call, model)
    call.state.sockets.add(socket)
    try:
        await _talk(call, socket, session)
    finally:
        call.state.sockets.discard(socket)
    return socket


async def _talk(call: Call, socket: web.WebSocketResponse, session: _Session) -> None:
    sent = await _send(call, socket, 0, [session.opened()])
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            sent = await _send(call, socket, sent, session.answer(message.data))
        elif message.type is WSMsgType.BINARY:
            sent = await _send(call, socket, sent, [session.problem("Frames must be JSON text.")])


async def _send(call: Call, socket: web.WebSocketResponse, sent: int, frames: Iterable[Json]) -> int:
    """Send frames at the rate of the knobs; `cut` and `stall` count frames. Returns how many were sent."""
    for frame in frames:
        if call.knobs.cut == sent:
            call.hang_up()
        if call.knobs.stall == sent:
            await call.silence()
        await call.pace(sent)
        await socket.send_str(fields.dumps(frame).decode())
        sent += 1
    return sent
