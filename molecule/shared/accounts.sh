#!/bin/sh
# Add the accounts in $ACCOUNTS: lines of user:password:group,group
set -eu
for group in $(printf '%s' "$ACCOUNTS" | cut -d: -f3 | tr ',' ' '); do
    groupadd --force "$group"
done
printf '%s' "$ACCOUNTS" | while IFS=: read -r user password groups; do
    id "$user" >/dev/null 2>&1 || useradd --shell /bin/bash "$user"
    usermod --groups "$groups" "$user"
    printf '%s:%s\n' "$user" "$password" | chpasswd
done
