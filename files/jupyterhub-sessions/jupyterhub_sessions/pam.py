"""Ask PAM, and keep what it answers: the code, which part refused, and what its modules said.

The layer below the authenticator: it knows libpam, through pamela's bindings, and nothing of JupyterHub. pamela's own
functions keep the code alone, and answer a refusal of the account as one of the password.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from ctypes import POINTER, c_char_p, cast, sizeof
from dataclasses import dataclass
from typing import Any

import pamela


class Code(enum.IntEnum):
    """The codes of _pam_types.h (Linux-PAM) that are told apart; `OTHER` stands for all the rest."""

    OTHER = -1
    SUCCESS = 0
    PERM_DENIED = 6
    AUTH_ERR = 7
    AUTHINFO_UNAVAIL = 9
    USER_UNKNOWN = 10
    MAXTRIES = 11
    NEW_AUTHTOK_REQD = 12
    ACCT_EXPIRED = 13
    CRED_ERR = 17
    AUTHTOK_EXPIRED = 27

    @classmethod
    def _missing_(cls, value: object) -> Code:
        return cls.OTHER


@dataclass(frozen=True)
class Answer:
    """What PAM answered.

    Parameters
    ----------
    code
        The code of the part that refused, or `Code.SUCCESS`.
    number
        The same as libpam gave it.
    account
        Whether it was the account part; the authentication had succeeded then, or was not asked.
    asked
        Whether any module asked for the password.
    messages
        What the modules said, in the language of the process, which is English.
    """

    code: Code
    number: int
    account: bool
    asked: bool
    messages: tuple[str, ...]

    def __str__(self) -> str:
        part = "account" if self.account else "authentication"
        text = pamela.pam_strerror(pamela.PamHandle(), self.number)
        return "; ".join([f"PAM {part}: {text} ({self.number})", *self.messages])


class _Conversation:
    """Answer the modules' questions with the passwords, in order, and note what they say."""

    def __init__(self, passwords: Iterable[str]) -> None:
        self._passwords = list(passwords)
        self.asked = False
        self.messages: list[str] = []
        # libpam keeps the address alone: the object must live as long as the handle.
        self.function = pamela.CONV_FUNC(self._converse)

    def _converse(self, number: int, messages: Any, response: Any, _data: Any) -> int:
        # libpam frees the answers: they must come from malloc.
        answers = cast(pamela.CALLOC(number, sizeof(pamela.PamResponse)), POINTER(pamela.PamResponse))
        response[0] = answers
        for index in range(number):
            message = messages[index].contents
            if message.msg_style == pamela.PAM_PROMPT_ECHO_OFF:
                self.asked = True
                if not self._passwords:
                    return 19  # PAM_CONV_ERR
                answers[index].resp = pamela.STRDUP(self._passwords.pop(0).encode())
            elif message.msg_style in {pamela.PAM_TEXT_INFO, pamela.PAM_ERROR_MSG}:
                self.messages.append((cast(message.msg, c_char_p).value or b"").decode(errors="replace"))
        return 0


_kept: dict[str, Any] = {}


def _keep_modules(service: str, user: str) -> None:
    """Keep a service's modules in memory, by a handle that is never closed.

    libpam unloads them with the last handle. pam_sss leaves each thread a function to call at the thread's end, which
    must still be there then (seen with SSSD 2.8: the process died at its end, SIGSEGV).
    """
    if service not in _kept:
        conversation = _Conversation(())
        _kept[service] = (pamela.pam_start(service, user, conversation.function), conversation)


def ask(service: str, user: str, passwords: Iterable[str] | None = None, address: str = "") -> Answer:
    """Ask PAM for the user's authentication and account; blocks, and may be called in many threads at once.

    Left out: pam_setcred, which prepares a session's process. The session's unit does it (PAMName=).

    Parameters
    ----------
    service
        Name of the PAM service.
    user
        Name of the account.
    passwords
        Answers to the modules' questions; None asks the account part alone.
    address
        Where the user comes from, for the modules' logs and rules.
    """
    _keep_modules(service, user)
    conversation = _Conversation(passwords or ())
    handle = pamela.pam_start(service, user, conversation.function)
    code, account = 0, passwords is None
    try:
        if address:
            pamela.PAM_SET_ITEM(handle, pamela.PAM_RHOST, address.encode())
        if passwords is not None:
            code = pamela.PAM_AUTHENTICATE(handle, 0)
        if code == 0:
            account = True
            code = pamela.PAM_ACCT_MGMT(handle, 0)
    finally:
        pamela.PAM_END(handle, code)
    return Answer(Code(code), code, account, conversation.asked, tuple(conversation.messages))
