#!/usr/bin/env python3
"""A PJSIP telephone (pip install pjsua2-python==2.15.1.post1) without a sound device: it calls or
waits to be called, plays a WAV file, records what it hears, and holds, transfers or hangs up when
it is told to. Each line of its output is something that happened, as JSON.

Times are seconds from the answer of its first call.
"""

import argparse
import json
import os
import time

import pjsua2 as pj


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tls", nargs=3, metavar=("CERTIFICATE", "KEY", "CA"),
                        help="signals over TLS instead of UDP")
    parser.add_argument("--srtp", action="store_true", help="takes no media in the clear")
    parser.add_argument("--rtp-port", type=int, required=True)
    parser.add_argument("--name", default="phone")
    parser.add_argument("--codec", default="PCMU")
    parser.add_argument("--call", help="whom to call; waits to be called otherwise")
    parser.add_argument("--status", type=int, default=200, help="what a call to us is answered with")
    parser.add_argument("--ring", type=float, default=0.3, help="seconds until then")
    parser.add_argument("--early", action="store_true", help="media before the answer (183)")
    parser.add_argument("--play")
    parser.add_argument("--loudspeaker", type=float, metavar="DB",
                        help="sends back what it hears, so much lower")
    parser.add_argument("--record")
    parser.add_argument("--hold-at", type=float)
    parser.add_argument("--resume-at", type=float)
    parser.add_argument("--keys")
    parser.add_argument("--keys-at", type=float, default=1)
    parser.add_argument("--press", action="append", default=[], metavar="KEYS@SECONDS",
                        help="more keys, later")
    parser.add_argument("--transfer-to")
    parser.add_argument("--transfer-at", type=float, default=2)
    parser.add_argument("--refuse-refer", type=int, help="the status that REFER is refused with")
    parser.add_argument("--second", help="whom to call beside")
    parser.add_argument("--second-at", type=float, default=2)
    parser.add_argument("--attend", choices=["first", "second"],
                        help="which of the two is asked to take our place with the other")
    parser.add_argument("--attend-at", type=float, default=5)
    parser.add_argument("--hang-up-at", type=float)
    parser.add_argument("--longest", type=float, default=60)
    return parser.parse_args()


ARGS = arguments()
CALLS = []


def tell(what, **more):
    more["event"] = what
    more["name"] = ARGS.name
    print(json.dumps(more), flush=True)


class Call(pj.Call):
    def __init__(self, account, call_id=pj.PJSUA_INVALID_ID):
        super().__init__(account, call_id)
        self.number = len(CALLS)
        CALLS.append(self)
        self.account = account
        self.player = None
        self.recorder = None
        self.answer_at = None
        self.answered = None
        self.ended = False
        self.done = False

    def onCallState(self, _):
        info = self.getInfo()
        if info.state == pj.PJSIP_INV_STATE_CONFIRMED and self.answered is None:
            self.answered = time.monotonic()
            tell("answered", call=self.number, remote=info.remoteUri)
        if info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            self.ended = True
            self.answer_at = None
            tell("ended", call=self.number, status=info.lastStatusCode, reason=info.lastReason)
            # The file's header is finished when the recorder goes.
            self.player = None
            self.recorder = None

    def onCallMediaState(self, _):
        # Kept, since the list belongs to it and goes with it.
        info = self.getInfo()
        media_list = info.media
        for index in range(len(media_list)):
            media = media_list[index]
            tell("media", call=self.number, status=media.status, direction=media.dir)
            wanted = (pj.PJSUA_CALL_MEDIA_ACTIVE, pj.PJSUA_CALL_MEDIA_REMOTE_HOLD)
            if media.type != pj.PJMEDIA_TYPE_AUDIO or media.status not in wanted:
                continue
            audio = self.getAudioMedia(index)
            if self.player is None and ARGS.play:
                self.player = pj.AudioMediaPlayer()
                self.player.createPlayer(ARGS.play, 0)
            if self.recorder is None and ARGS.record:
                suffix = "" if self.number == 0 else f".{self.number}.wav"
                self.recorder = pj.AudioMediaRecorder()
                self.recorder.createRecorder(ARGS.record + suffix)
            if self.player is not None and media.status == pj.PJSUA_CALL_MEDIA_ACTIVE:
                self.player.startTransmit(audio)
            if self.recorder is not None:
                audio.startTransmit(self.recorder)
            if ARGS.loudspeaker is not None:
                lower = pj.AudioMediaTransmitParam()
                lower.level = 10 ** (-ARGS.loudspeaker / 20)
                audio.startTransmit2(audio, lower)

    def onDtmfDigit(self, prm):
        tell("key", call=self.number, key=prm.digit)

    def onCallTransferRequest(self, prm):
        tell("refer", call=self.number, to=prm.dstUri)
        if ARGS.refuse_refer:
            prm.statusCode = ARGS.refuse_refer
        else:
            prm.newCall = Call(self.account)

    def onCallReplaceRequest(self, prm):
        prm.newCall = Call(self.account)

    def onCallReplaced(self, prm):
        tell("replaced", call=self.number)

    def onCallTransferStatus(self, prm):
        tell("notify", call=self.number, status=prm.statusCode, final=bool(prm.finalNotify))
        self.done = bool(prm.finalNotify) and prm.statusCode // 100 == 2

    def packets(self):
        try:
            return self.getStreamStat(0).rtcp.rxStat.pkt
        except pj.Error:
            return -1


class Account(pj.Account):
    def onIncomingCall(self, prm):
        call = Call(self, prm.callId)
        message = prm.rdata.wholeMsg
        tell("called", call=call.number, invite=message.split("\r\n\r\n")[0])
        ringing = pj.CallOpParam()
        ringing.statusCode = 183 if ARGS.early else 180
        call.answer(ringing)
        call.answer_at = time.monotonic() + ARGS.ring


def start():
    end = pj.Endpoint()
    end.libCreate()
    config = pj.EpConfig()
    config.logConfig.level = 1
    config.logConfig.consoleLevel = 0
    config.medConfig.noVad = True
    config.medConfig.ecTailLen = 0
    config.medConfig.clockRate = 8000
    config.medConfig.sndClockRate = 8000
    config.uaConfig.threadCnt = 0
    config.uaConfig.mainThreadOnly = True
    end.libInit(config)
    transport = pj.TransportConfig()
    transport.port = ARGS.port
    transport.boundAddress = "127.0.0.1"
    kind = pj.PJSIP_TRANSPORT_UDP
    if ARGS.tls:
        kind = pj.PJSIP_TRANSPORT_TLS
        tls = transport.tlsConfig
        tls.certFile, tls.privKeyFile, tls.CaListFile = ARGS.tls
    end.transportCreate(kind, transport)
    end.libStart()
    end.audDevManager().setNullDev()
    for codec in end.codecEnum2():
        end.codecSetPriority(codec.codecId, 0)
    end.codecSetPriority(ARGS.codec + "/8000", 200)
    config = pj.AccountConfig()
    config.idUri = f"sip:{ARGS.name}@127.0.0.1:{ARGS.port}"
    if ARGS.tls:
        config.idUri += ";transport=tls"
    if ARGS.srtp:
        config.mediaConfig.srtpUse = pj.PJMEDIA_SRTP_MANDATORY
        config.mediaConfig.srtpSecureSignaling = 0
    config.mediaConfig.transportConfig.port = ARGS.rtp_port
    config.mediaConfig.transportConfig.boundAddress = "127.0.0.1"
    config.mediaConfig.transportConfig.publicAddress = "127.0.0.1"
    account = Account()
    account.create(config)
    return end, account


def guarded(what, action):
    try:
        action()
        tell(what)
    except pj.Error as error:
        tell("failed", what=what, reason=error.reason)


def press(call, digits=None):
    keys = pj.CallSendDtmfParam()
    keys.digits = digits or ARGS.keys
    keys.duration = 160
    keys.method = pj.PJSUA_DTMF_METHOD_RFC2833
    call.sendDtmf(keys)


def attend(_):
    first, second = CALLS[:2]
    one, other = (first, second) if ARGS.attend == "first" else (second, first)
    one.xferReplaces(other, pj.CallOpParam())


def take_back(call):
    again = pj.CallOpParam(True)
    again.opt.flag = pj.PJSUA_CALL_UNHOLD
    call.reinvite(again)


def main():
    end, account = start()
    if ARGS.call:
        call = Call(account)
        call.makeCall(ARGS.call, pj.CallOpParam(True))
    tell("ready")
    def call_second(_):
        Call(account).makeCall(ARGS.second, pj.CallOpParam(True))

    plan = [
        (ARGS.hold_at, "held", lambda call: call.setHold(pj.CallOpParam(True))),
        (ARGS.resume_at, "took-back", take_back),
        (ARGS.keys and ARGS.keys_at, "pressed", press),
        (ARGS.transfer_to and ARGS.transfer_at, "asked-for-transfer",
         lambda call: call.xfer(ARGS.transfer_to, pj.CallOpParam())),
        (ARGS.second and ARGS.second_at, "called-second", call_second),
        (ARGS.attend and ARGS.attend_at, "asked-for-transfer", attend),
        (ARGS.hang_up_at, "hung-up", lambda call: call.hangup(pj.CallOpParam())),
    ]
    for more in ARGS.press:
        digits, at = more.split("@")
        plan.append((float(at), "pressed", lambda call, digits=digits: press(call, digits)))
    plan = [step for step in plan if step[0] is not None]
    # How many packets come while we hold: counted from a little after it on.
    counted = None
    until = time.monotonic() + ARGS.longest
    while time.monotonic() < until:
        end.libHandleEvents(20)
        now = time.monotonic()
        for call in list(CALLS):
            if call.done and not call.ended:
                call.done = False
                guarded("hung-up", lambda: call.hangup(pj.CallOpParam()))
            if call.answer_at is not None and now >= call.answer_at:
                call.answer_at = None
                answer = pj.CallOpParam()
                answer.statusCode = ARGS.status
                guarded("replied", lambda: call.answer(answer))
        if CALLS and CALLS[0].answered is not None and not CALLS[0].ended:
            since = now - CALLS[0].answered
            if ARGS.hold_at is not None and counted is None and since > ARGS.hold_at + 0.7:
                counted = CALLS[0].packets()
            for step in list(plan):
                if since >= step[0]:
                    plan.remove(step)
                    if step[1] == "took-back" and counted is not None:
                        tell("packets-on-hold", packets=CALLS[0].packets() - counted)
                    guarded(step[1], lambda: step[2](CALLS[0]))
        if CALLS and all(call.ended for call in CALLS):
            break
    # PJSIP closes its files in the background.
    closing = time.monotonic() + 0.6
    while time.monotonic() < closing:
        end.libHandleEvents(20)
    tell("over")
    # The library's own way out waits for a sound device that is not there.
    os._exit(0)


main()
