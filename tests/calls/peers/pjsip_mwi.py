#!/usr/bin/env python3
"""A PJSIP telephone (pip install pjsua2-python==2.15.1.post1) with a message lamp: it subscribes to
its message summary (RFC 3842) and prints every NOTIFY as a line of JSON. Once it has seen a message
come and go it gives its subscription back, and ends.
"""

import argparse
import json
import os
import re
import socket
import threading
import time

import pjsua2 as pj


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("uri", help="whose messages: sip:user@host:port")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--longest", type=float, default=90)
    return parser.parse_args()


def registrar():
    """PJSIP subscribes once it is registered somewhere: here, with whoever says yes."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 0))

    def agree():
        while True:
            request, source = listener.recvfrom(4096)
            wanted = ("Via", "From", "To", "Call-ID", "CSeq", "Contact")
            lines = [line for line in request.decode().split("\r\n") if line.split(":")[0] in wanted]
            lines += ["Expires: 300", "Content-Length: 0", "", ""]
            listener.sendto("\r\n".join(["SIP/2.0 200 OK"] + lines).encode(), source)

    threading.Thread(target=agree, daemon=True).start()
    return listener.getsockname()[1]


class Account(pj.Account):
    def __init__(self):
        super().__init__()
        self.counts = []

    def onMwiInfo(self, prm):
        message = prm.rdata.wholeMsg
        state = re.search(r"^Subscription-State: *(.*)$", message, re.M | re.I)
        waiting = re.search(r"^Messages-Waiting: *(\w+)", message, re.M | re.I)
        counts = re.search(r"^Voice-Message: *(\d+/\d+)", message, re.M | re.I)
        seen = {
            "event": "summary",
            "state": state.group(1).strip() if state else "",
            "waiting": waiting.group(1) if waiting else "",
            "counts": counts.group(1) if counts else "",
        }
        print(json.dumps(seen), flush=True)
        self.counts.append(seen["counts"])


def main():
    args = arguments()
    end = pj.Endpoint()
    end.libCreate()
    config = pj.EpConfig()
    config.logConfig.level = 1
    config.logConfig.consoleLevel = 0
    config.uaConfig.threadCnt = 0
    config.uaConfig.mainThreadOnly = True
    end.libInit(config)
    transport = pj.TransportConfig()
    transport.port = args.port
    transport.boundAddress = "127.0.0.1"
    end.transportCreate(pj.PJSIP_TRANSPORT_UDP, transport)
    end.libStart()
    end.audDevManager().setNullDev()
    config = pj.AccountConfig()
    config.idUri = args.uri
    config.mwiConfig.enabled = True
    config.mwiConfig.expirationSec = 600
    config.regConfig.registrarUri = f"sip:127.0.0.1:{registrar()}"
    if args.user:
        config.sipConfig.authCreds.append(pj.AuthCredInfo("digest", "*", args.user, 0, args.password))
    account = Account()
    account.create(config)
    gone = False
    until = time.monotonic() + args.longest
    while time.monotonic() < until and not gone:
        end.libHandleEvents(20)
        came = next((at for at, counts in enumerate(account.counts) if counts.startswith("1/")), None)
        gone = came is not None and "0/0" in account.counts[came:]
    account.shutdown()
    until = time.monotonic() + 2
    while time.monotonic() < until:
        end.libHandleEvents(20)
    # The library's own way out waits for a sound device that is not there.
    os._exit(0)


main()
