#!/bin/sh
# Starts Alertmanager with receivers from the environment (.env), or says why it does not.
#   alertmanager.sh CONFIG [ARGUMENTS…]   CONFIG holds routes and inhibitions; its receivers are replaced
# Set at least one of:
#   ALERT_SLACK_URL       incoming webhook of Slack; ALERT_SLACK_CHANNEL for another channel than its own
#   ALERT_PAGERDUTY_KEY   integration key (Events API v2) of PagerDuty; gets pages only
#   ALERT_EMAIL_TO        with ALERT_SMTP_HOST (host:port), ALERT_SMTP_FROM, ALERT_SMTP_USER, ALERT_SMTP_PASSWORD
#   ALERT_WEBHOOK_URL     any address that takes Alertmanager's JSON
#   ALERTS=off            start without a receiver: alerts are visible in Alertmanager and nowhere else
# ALERTMANAGER names the program; with ALERT_CHECK=1 the configuration is only printed.
set -eu

config=$1
shift
text='{{ range .Alerts }}{{ .Annotations.summary }}\n{{ .Annotations.description }}\n{{ .Annotations.runbook_url }}\n{{ end }}'

quoted() { # a YAML string in double quotes
    printf '"%s"' "$(printf '%s' "$1" | sed 's/[\\"]/\\&/g')"
}

receiver() { # receiver NAME: its integrations, by what is set
    printf -- '- name: %s\n' "$1"
    if [ -n "${ALERT_SLACK_URL:-}" ]; then
        printf '  slack_configs:\n  - api_url: %s\n    send_resolved: true\n' "$(quoted "$ALERT_SLACK_URL")"
        printf '    title: "{{ .CommonAnnotations.summary }}"\n    text: "%s"\n' "$text"
        [ -z "${ALERT_SLACK_CHANNEL:-}" ] || printf '    channel: %s\n' "$(quoted "$ALERT_SLACK_CHANNEL")"
    fi
    if [ -n "${ALERT_PAGERDUTY_KEY:-}" ] && [ "$1" = page ]; then
        printf '  pagerduty_configs:\n  - routing_key: %s\n' "$(quoted "$ALERT_PAGERDUTY_KEY")"
        printf '    description: "{{ .CommonAnnotations.summary }}"\n'
    fi
    if [ -n "${ALERT_EMAIL_TO:-}" ]; then
        printf '  email_configs:\n  - to: %s\n    send_resolved: true\n' "$(quoted "$ALERT_EMAIL_TO")"
        printf '    smarthost: %s\n' "$(quoted "$ALERT_SMTP_HOST")"
        printf '    from: %s\n' "$(quoted "$ALERT_SMTP_FROM")"
        if [ -n "${ALERT_SMTP_USER:-}" ]; then
            printf '    auth_username: %s\n    auth_password: %s\n' "$(quoted "$ALERT_SMTP_USER")" "$(quoted "${ALERT_SMTP_PASSWORD:-}")"
        fi
    fi
    if [ -n "${ALERT_WEBHOOK_URL:-}" ]; then
        printf '  webhook_configs:\n  - url: %s\n    send_resolved: true\n' "$(quoted "$ALERT_WEBHOOK_URL")"
    fi
}

if [ -z "${ALERT_SLACK_URL:-}${ALERT_PAGERDUTY_KEY:-}${ALERT_EMAIL_TO:-}${ALERT_WEBHOOK_URL:-}" ] && [ "${ALERTS:-}" != off ]; then
    echo "error: alerts have no receiver, so nobody would be notified" >&2
    echo "hint:  set ALERT_SLACK_URL, ALERT_PAGERDUTY_KEY, ALERT_EMAIL_TO or ALERT_WEBHOOK_URL in .env, or ALERTS=off" >&2
    exit 1
fi

if [ -n "${ALERT_EMAIL_TO:-}" ]; then
    : "${ALERT_SMTP_HOST:?ALERT_EMAIL_TO needs the mail server as host:port}"
    : "${ALERT_SMTP_FROM:?ALERT_EMAIL_TO needs the address of the sender}"
fi

made=$(mktemp)
{
    sed '/^receivers:/,$d' "$config"
    echo 'receivers:'
    receiver page
    receiver ticket
} >"$made"
if [ -n "${ALERT_CHECK:-}" ]; then
    cat "$made"
    rm -f "$made"
    exit 0
fi
exec "${ALERTMANAGER:-/bin/alertmanager}" --config.file="$made" "$@"
