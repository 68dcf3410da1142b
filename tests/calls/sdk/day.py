"""Vapi's Python SDK, unmodified, against Offhook: what an integration does in a day.

Reads BASE_URL, API_KEY and CALLEE (host:port of a SIP peer that answers); prints what it saw.
"""

import json
import os
import time

import httpx
from vapi import Vapi
from vapi.core.api_error import ApiError
from vapi.phone_numbers.types import CreatePhoneNumbersRequest_ByoPhoneNumber
from vapi.phone_numbers.types import UpdatePhoneNumbersRequestBody_ByoPhoneNumber

base, key = os.environ["BASE_URL"], os.environ["API_KEY"]
host, port = os.environ["CALLEE"].split(":")
vapi = Vapi(token=key, base_url=base)

# The SDK has no resource for credentials.
trunk = httpx.post(
    f"{base}/credential",
    headers={"Authorization": f"Bearer {key}"},
    json={"provider": "byo-sip-trunk", "name": "peer", "gateways": [{"ip": host, "port": int(port)}]},
).raise_for_status().json()

assistant = vapi.assistants.create(
    name="Front desk",
    first_message="Hello, this is the front desk of the garden hotel calling.",
    model={
        "provider": "openai",
        "model": "gpt-4o",
        "temperature": 0.3,
        "max_tokens": 40,
        "messages": [{"role": "system", "content": "Answer with one short sentence."}],
    },
    voice={"provider": "11labs", "voiceId": "sarah"},
    transcriber={"provider": "deepgram", "model": "nova-2", "language": "en-US"},
    start_speaking_plan={"waitSeconds": 0.5},
    stop_speaking_plan={"numWords": 1.0},
    max_duration_seconds=10,
    metadata={"ours": True},
)
assert assistant.metadata == {"ours": True}, assistant
read = vapi.assistants.get(assistant.id)
assert read.voice.provider == "11labs" and read.model.model == "gpt-4o", read
warned = [warning["field"] for warning in read.warnings]
assert warned == ["model.provider", "transcriber.provider", "voice.provider"], warned
assert assistant.id in [one.id for one in vapi.assistants.list(limit=10)]

number = vapi.phone_numbers.create(
    request=CreatePhoneNumbersRequest_ByoPhoneNumber(
        number="+49305550100", credential_id=trunk["id"], assistant_id=assistant.id
    )
)
assert vapi.phone_numbers.get(number.id).assistant_id == assistant.id
renamed = vapi.phone_numbers.update(
    number.id, request=UpdatePhoneNumbersRequestBody_ByoPhoneNumber(name="Main line")
)
assert renamed.name == "Main line" and renamed.number == "+49305550100", renamed

call = vapi.calls.create(
    assistant_id=assistant.id,
    phone_number_id=number.id,
    customer={"number": "+49301234567", "name": "Ann"},
    name="A first call",
)
assert call.type == "outboundPhoneCall", call
until = time.monotonic() + 60
while (ended := vapi.calls.get(call.id)).status != "ended":
    assert time.monotonic() < until, ended
    time.sleep(0.5)
assert ended.assistant_id == assistant.id and ended.phone_number_id == number.id, ended
assert ended.customer.number == "+49301234567" and ended.customer.name == "Ann", ended
assert ended.messages and ended.messages[0].role == "bot", ended.messages
assert ended.artifact.messages and "AI: Hello" in ended.artifact.transcript, ended.artifact
recording = httpx.get(ended.artifact.recording_url, headers={"Authorization": f"Bearer {key}"})
assert recording.status_code == 200 and recording.content[:4] == b"RIFF", recording.status_code
sound = b"".join(vapi.calls.call_artifact_controller_stereo_recording_download(call.id) or [])
listed = vapi.calls.list(assistant_id=assistant.id)
assert [one.id for one in listed] == [call.id], listed
assert vapi.calls.update(call.id, name="Renamed").name == "Renamed"
assert vapi.calls.delete(call.id).id == call.id
try:
    vapi.calls.get(call.id)
    raise AssertionError("a deleted call is still there")
except ApiError as gone:
    assert gone.status_code == 404, gone

changed = vapi.assistants.update(assistant.id, first_message="Good day.")
assert changed.first_message == "Good day." and changed.name == "Front desk", changed
vapi.phone_numbers.delete(number.id)
assert vapi.assistants.delete(assistant.id).id == assistant.id
print(json.dumps({"endedReason": ended.ended_reason, "said": ended.artifact.transcript}))
