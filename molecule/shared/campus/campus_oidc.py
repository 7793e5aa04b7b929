#!/usr/bin/python3
"""Give the campus a single sign-on: LemonLDAP::NG, an OpenID Connect provider at https://auth.example.org.

It asks the campus's directory for people and their passwords. Installed beside campus_ctl.py, runs as root after it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from campus_ctl import BASE, SERVICE_PASSWORD, SERVICES, STATE, TLS, active, install_packages, run

# Apache would work as well; nginx is smaller. The modules of Perl are those that LemonLDAP::NG recommends, or forgets
# to, for what is used of it here.
PACKAGES = [
    "nginx-light",
    "lemonldap-ng-fastcgi-server",
    "liblemonldap-ng-portal-perl",
    "libconvert-pem-perl",
    "libcrypt-openssl-rsa-perl",
    "libcrypt-jwt-perl",
    "libio-socket-timeout-perl",
    "libio-string-perl",
    "libnet-ldap-perl",
    "libstring-random-perl",
    "libunicode-string-perl",
]
HOST = "auth.example.org"
DESCRIPTION = f"https://{HOST}/.well-known/openid-configuration"
LEMONLDAP = Path("/var/lib/lemonldap-ng")
STAMP = STATE / "oidc.sha256"

SITE = f"""\
server {{
    listen 443 ssl;
    server_name {HOST};
    ssl_certificate {TLS}/cert.pem;
    ssl_certificate_key {TLS}/key.pem;
    root /usr/share/lemonldap-ng/portal/htdocs/;

    location /static/ {{
    }}
    location /javascript/ {{
        alias /usr/share/javascript/;
    }}
    location / {{
        include fastcgi_params;
        fastcgi_param LLTYPE psgi;
        fastcgi_param SCRIPT_NAME "";
        fastcgi_param PATH_INFO $uri;
        fastcgi_param HTTP_HOST $host;
        fastcgi_param SCRIPT_FILENAME $document_root/index.psgi;
        fastcgi_param UNIQUE_ID $request_id;
        fastcgi_pass unix:/run/llng-fastcgi-server/llng-fastcgi.sock;
    }}
}}
"""


def configuration(client: dict[str, Any], key: str, public_key: str) -> dict[str, Any]:
    """Return LemonLDAP's configuration; what is not here has its defaults."""
    files = {name: str(LEMONLDAP / name) for name in ("sessions", "psessions", "notifications")}
    options = {
        "ClientID": client["client_id"],
        "ClientSecret": client["client_secret"],
        "RedirectUris": " ".join(client["redirect_uris"]),
        "BypassConsent": 1,
        "RequirePKCE": 1,
        "IDTokenSignAlg": "RS256",
        "UserIDAttr": "uid",
        "LogoutBypassConfirm": 1,
    }
    return {
        "cfgNum": 1,
        "cfgAuthor": "campus",
        "cfgDate": 1,
        "cfgVersion": "2.16.0",
        "portal": f"https://{HOST}/",
        "domain": "example.org",
        "cookieName": "lemonldap",
        "securedCookie": 1,
        "key": hashlib.sha256(key.encode()).hexdigest(),
        "authentication": "LDAP",
        "userDB": "Same",
        "ldapServer": "ldaps://ldap.example.org",
        "ldapCAFile": f"{TLS}/ca.pem",
        "ldapVerify": "require",
        "ldapBase": f"ou=people,{BASE}",
        "managerDn": f"cn=hub,ou=services,{BASE}",
        "managerPassword": SERVICE_PASSWORD,
        "ldapExportedVars": {"uid": "uid", "cn": "cn", "mail": "mail"},
        # Each of these loads Perl modules that are not needed here.
        "passwordDB": "",
        "passwordPolicyActivation": 0,
        "portalDisplayRegister": 0,
        "portalDisplayResetPassword": 0,
        "captcha_login_enabled": 0,
        "captcha_mail_enabled": 0,
        "captcha_register_enabled": 0,
        "whatToTrace": "uid",
        "locationRules": {HOST: {"default": "accept"}},
        "globalStorage": "Apache::Session::File",
        "globalStorageOptions": {
            "Directory": files["sessions"],
            "LockDirectory": f"{files['sessions']}/lock",
            "generateModule": "Lemonldap::NG::Common::Apache::Session::Generate::SHA256",
        },
        "persistentStorage": "Apache::Session::File",
        "persistentStorageOptions": {
            "Directory": files["psessions"],
            "LockDirectory": f"{files['psessions']}/lock",
        },
        "notificationStorage": "File",
        "notificationStorageOptions": {"dirName": files["notifications"]},
        "issuerDBOpenIDConnectActivation": 1,
        "issuerDBOpenIDConnectRule": 1,
        "oidcServiceMetaDataIssuer": f"https://{HOST}",
        "oidcServicePrivateKeySig": key,
        "oidcServicePublicKeySig": public_key,
        "oidcServiceKeyIdSig": "campus",
        "oidcServiceAllowAuthorizationCodeFlow": 1,
        "oidcRPMetaDataOptions": {
            "hub": {f"oidcRPMetaDataOptions{name}": value for name, value in options.items()},
        },
        "oidcRPMetaDataExportedVars": {"hub": {"preferred_username": "uid", "name": "cn", "email": "mail"}},
    }


def setup() -> None:
    """Make the provider for the client on standard input; say "changed" if it was not so already."""
    text = sys.stdin.read()
    stamp = hashlib.sha256(text.encode() + Path(__file__).read_bytes()).hexdigest()
    units = SERVICES["oidc"]
    made = STAMP.exists() and STAMP.read_text() == stamp
    if made and all(active(unit) for unit in units):
        return
    if not made:
        install_packages(PACKAGES)
        run("systemctl", "stop", *units)
        key = run("openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
        public_key = run("openssl", "pkey", "-pubout", stdin=key)
        file = LEMONLDAP / "conf/lmConf-1.json"
        file.touch(mode=0o640)
        file.write_text(json.dumps(configuration(json.loads(text), key, public_key), indent=1))
        shutil.chown(file, "www-data", "www-data")
        # The configuration is cached there for ten minutes.
        run("rm", "-rf", "/var/cache/lemonldap-ng")
        Path("/var/cache/lemonldap-ng").mkdir(mode=0o750)
        shutil.chown("/var/cache/lemonldap-ng", "www-data", "www-data")
        Path("/etc/nginx/sites-enabled/default").unlink(missing_ok=True)
        Path("/etc/nginx/sites-enabled/oidc").write_text(SITE)
    run("systemctl", "start", *units)
    described = run("curl", "--silent", "--show-error", "--cacert", f"{TLS}/ca.pem", DESCRIPTION)
    if "token_endpoint" not in described:
        sys.exit(f"{DESCRIPTION} answers: {described} See journalctl -u lemonldap-ng-fastcgi-server.")
    STAMP.write_text(stamp)
    print("changed")


if __name__ == "__main__":
    setup()
