#!/usr/bin/env python3
"""Makes one call with PJSIP (pip install pjsua2-python==2.15.1.post1) without a sound device.

Plays a WAV file from the answer on, records what comes back, presses keys (RFC 4733), and hangs up
or waits for the other side to do so. The last line of its output is what it saw, as JSON.
"""

import argparse
import json
import os
import sys
import time

import pjsua2 as pj

LONGEST = 60


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rtp-port", type=int, required=True)
    parser.add_argument("--codec", choices=["PCMU", "PCMA", "G722"], required=True)
    parser.add_argument("--play", required=True)
    parser.add_argument("--record", required=True)
    parser.add_argument("--keys")
    parser.add_argument("--keys-after", type=float, default=0)
    parser.add_argument("--hang-up-after", type=float)
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--transport", choices=["udp", "tcp", "tls"], default="udp")
    parser.add_argument("--ca", help="verify the server's certificate by this file")
    parser.add_argument("--require-extensions", action="store_true")
    parser.add_argument("--srtp", choices=["optional", "mandatory"], help="encrypt media")
    return parser.parse_args()


class Call(pj.Call):
    def __init__(self, account, args):
        super().__init__(account)
        self.args = args
        self.player = None
        self.recorder = None
        self.answered = None
        self.ended = None
        self.status = 0
        self.seen = {"codec": "", "packets_received": 0, "packets_lost": 0}

    def onCallState(self, _):
        info = self.getInfo()
        if info.state == pj.PJSIP_INV_STATE_CONFIRMED:
            self.answered = self.answered or time.monotonic()
        if info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            self.ended = time.monotonic()
            self.status = info.lastStatusCode
            # The file's header is finished when the recorder goes.
            self.player = None
            self.recorder = None

    def onCallMediaState(self, _):
        # Kept, since the list belongs to it and goes with it.
        info = self.getInfo()
        media_list = info.media
        for index in range(len(media_list)):
            media = media_list[index]
            if media.type != pj.PJMEDIA_TYPE_AUDIO or media.status != pj.PJSUA_CALL_MEDIA_ACTIVE:
                continue
            audio = self.getAudioMedia(index)
            self.seen["codec"] = self.getStreamInfo(index).codecName
            if self.player is None:
                self.player = pj.AudioMediaPlayer()
                self.player.createPlayer(self.args.play, pj.PJMEDIA_FILE_NO_LOOP)
                self.recorder = pj.AudioMediaRecorder()
                self.recorder.createRecorder(self.args.record)
            self.player.startTransmit(audio)
            audio.startTransmit(self.recorder)

    def count_packets(self):
        try:
            received = self.getStreamStat(0).rtcp.rxStat
        except pj.Error:
            return
        self.seen["packets_received"] = received.pkt
        self.seen["packets_lost"] = received.loss


def endpoint(args):
    end = pj.Endpoint()
    end.libCreate()
    config = pj.EpConfig()
    config.logConfig.level = 1
    config.logConfig.consoleLevel = 1
    config.medConfig.noVad = True
    config.medConfig.ecTailLen = 0
    rate = 16000 if args.codec == "G722" else 8000
    config.medConfig.clockRate = rate
    config.medConfig.sndClockRate = rate
    config.uaConfig.threadCnt = 0
    config.uaConfig.mainThreadOnly = True
    end.libInit(config)
    transport = pj.TransportConfig()
    transport.port = args.port
    transport.boundAddress = "127.0.0.1"
    kinds = {
        "udp": pj.PJSIP_TRANSPORT_UDP,
        "tcp": pj.PJSIP_TRANSPORT_TCP,
        "tls": pj.PJSIP_TRANSPORT_TLS,
    }
    if args.ca:
        transport.tlsConfig.CaListFile = args.ca
        transport.tlsConfig.verifyServer = True
    end.transportCreate(kinds[args.transport], transport)
    end.libStart()
    end.audDevManager().setNullDev()
    for codec in end.codecEnum2():
        end.codecSetPriority(codec.codecId, 0)
    # G.722 is at 8000 in SDP, whatever its sound; PJSIP names it by that.
    wanted = [codec.codecId for codec in end.codecEnum2() if codec.codecId.startswith(args.codec + "/")]
    end.codecSetPriority(wanted[0], 200)
    return end


def account(args):
    config = pj.AccountConfig()
    suffix = "" if args.transport == "udp" else f";transport={args.transport}"
    config.idUri = f"sip:pjsip@127.0.0.1:{args.port}{suffix}"
    config.mediaConfig.transportConfig.port = args.rtp_port
    config.mediaConfig.transportConfig.boundAddress = "127.0.0.1"
    config.mediaConfig.transportConfig.publicAddress = "127.0.0.1"
    if args.srtp:
        uses = {"optional": pj.PJMEDIA_SRTP_OPTIONAL, "mandatory": pj.PJMEDIA_SRTP_MANDATORY}
        config.mediaConfig.srtpUse = uses[args.srtp]
        config.mediaConfig.srtpSecureSignaling = 0
    if args.user:
        config.sipConfig.authCreds.append(pj.AuthCredInfo("digest", "*", args.user, 0, args.password))
    if args.require_extensions:
        config.callConfig.prackUse = pj.PJSUA_100REL_MANDATORY
        config.callConfig.timerUse = pj.PJSUA_SIP_TIMER_REQUIRED
        config.callConfig.timerMinSESec = 90
        config.callConfig.timerSessExpiresSec = 90
    made = pj.Account()
    made.create(config)
    return made


def talk(end, call, args):
    """Goes on until the call is over; true where we hung up."""
    started = time.monotonic()
    pressed = args.keys is None
    hung_up = False
    while call.ended is None and time.monotonic() - started < LONGEST:
        end.libHandleEvents(20)
        if call.answered is None or call.ended is not None or hung_up:
            continue
        since = time.monotonic() - call.answered
        call.count_packets()
        if not pressed and since > args.keys_after:
            pressed = True
            keys = pj.CallSendDtmfParam()
            keys.digits = args.keys
            keys.duration = 160
            keys.method = pj.PJSUA_DTMF_METHOD_RFC2833
            call.sendDtmf(keys)
        if args.hang_up_after is not None and since > args.hang_up_after:
            hung_up = True
            call.hangup(pj.CallOpParam())
    return hung_up


def main():
    args = arguments()
    end = endpoint(args)
    caller = account(args)
    call = Call(caller, args)
    call.makeCall(args.target, pj.CallOpParam(True))
    hung_up = talk(end, call, args)
    # PJSIP closes its files in the background.
    closing = time.monotonic() + 0.5
    while time.monotonic() < closing:
        end.libHandleEvents(20)
    if call.ended is None:
        print(f"the call did not end: status {call.status}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)
    seen = call.seen
    seen["status"] = call.status
    seen["answered"] = call.answered is not None
    seen["ended_by"] = "local" if hung_up else "remote"
    seen["seconds"] = call.ended - (call.answered or call.ended)
    print(json.dumps(seen), flush=True)
    # The library's own way out waits for a sound device that is not there.
    os._exit(0)


main()
