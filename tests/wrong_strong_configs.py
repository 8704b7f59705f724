"""Wrong settings of strong mode, and what a user is told about each, as in `wrong_configs`."""

from __future__ import annotations

WRONG_STRONG: dict[str, tuple[str, list[str]]] = {
    "url_and_host": (
        "rating:\n  bucket_backend:\n    connection: {host: h, url: 'redis://h'}\n",
        [
            (
                "3:24: rating.bucket_backend.connection.host: is given beside url (write it "
                "in the url, or use no url)"
            ),
        ],
    ),
    "url_scheme": (
        "rating:\n  bucket_backend:\n    connection: {url: 'http://u:hunter2@h'}\n",
        [
            (
                "3:23: rating.bucket_backend.connection.url: has no scheme that is known here "
                "(redis://, rediss://, unix://, redis+sentinel://, rediss+sentinel://, "
                "redis+cluster://, rediss+cluster://) (such as redis://10.0.0.5:6379/0)"
            ),
        ],
    ),
    "url_secret": (
        "rating:\n  bucket_backend:\n    connection: {url: '${env:SECRET}'}\n",
        [
            (
                "3:23: rating.bucket_backend.connection.url: has no scheme that is known here "
                "(redis://, rediss://, unix://, redis+sentinel://, rediss+sentinel://, "
                "redis+cluster://, rediss+cluster://) (such as redis://10.0.0.5:6379/0)"
            ),
        ],
    ),
    "url_no_host": (
        "rating:\n  bucket_backend:\n    connection: {url: 'redis://:hunter2@/0'}\n",
        [
            (
                "3:23: rating.bucket_backend.connection.url: has no host name (such as "
                "redis://10.0.0.5:6379/0)"
            ),
        ],
    ),
    "url_and_sentinel": (
        (
            "rating:\n"
            "  bucket_backend:\n"
            "    connection:\n"
            "      url: redis://h\n"
            "      sentinel: {master: m, nodes: [s:1]}\n"
        ),
        [
            (
                "5:26: rating.bucket_backend.connection.sentinel.master: is given beside url "
                "(write it in the url, or use no url)"
            ),
            (
                "5:29: rating.bucket_backend.connection.sentinel.nodes: is given beside url "
                "(write it in the url, or use no url)"
            ),
        ],
    ),
    "host_space": (
        "rating:\n  bucket_backend:\n    connection:\n      host: a host\n",
        [
            (
                "4:13: rating.bucket_backend.connection.host: has no host name or address "
                '(write a name or address, "10.0.0.5")'
            ),
        ],
    ),
    "host_and_sentinel": (
        (
            "rating:\n"
            "  bucket_backend:\n"
            "    connection:\n"
            "      host: h\n"
            "      sentinel:\n"
            "        master: m\n"
            "        nodes: [s:1]\n"
        ),
        [
            (
                "4:13: rating.bucket_backend.connection.host: is given beside sentinel.nodes "
                "(they name the server: leave it out)"
            ),
        ],
    ),
    "sentinel_no_master": (
        ("rating:\n  bucket_backend:\n    connection:\n      sentinel:\n        nodes: [s:1]\n"),
        [
            (
                "4:7: rating.bucket_backend.connection.sentinel: sentinel.master is missing "
                "(give the primary's name, as they know it)"
            ),
        ],
    ),
    "sentinel_no_nodes": (
        "rating:\n  bucket_backend:\n    connection:\n      sentinel:\n        master: m\n",
        [
            (
                "4:7: rating.bucket_backend.connection.sentinel: sentinel.nodes are missing "
                '(give their addresses, such as "10.0.0.5:26379")'
            ),
        ],
    ),
    "sentinel_address": (
        (
            "rating:\n"
            "  bucket_backend:\n"
            "    connection:\n"
            "      sentinel:\n"
            "        master: m\n"
            "        nodes: [s:1, s:x]\n"
        ),
        [
            (
                "6:22: rating.bucket_backend.connection.sentinel.nodes[1]: has no port from 1 "
                'to 65535 (write "host:port", such as "10.0.0.5:6379")'
            ),
        ],
    ),
    "sentinel_key": (
        "rating:\n  bucket_backend:\n    connection:\n      sentinel: {nmaster: m}\n",
        [
            (
                "4:18: rating.bucket_backend.connection.sentinel.nmaster: unknown key "
                "'nmaster' (did you mean 'master'?)"
            ),
        ],
    ),
    "cluster_and_sentinel": (
        (
            "rating:\n"
            "  bucket_backend:\n"
            "    connection:\n"
            "      cluster: true\n"
            "      sentinel: {master: m, nodes: [s:1]}\n"
        ),
        [
            (
                "4:16: rating.bucket_backend.connection.cluster: is given beside "
                "sentinel.nodes (use one of them)"
            ),
        ],
    ),
    "cluster_db": (
        (
            "rating:\n"
            "  bucket_backend:\n"
            "    connection:\n"
            "      cluster: true\n"
            "      host: h\n"
            "      db: 1\n"
        ),
        [
            "6:11: rating.bucket_backend.connection.db: is 1 (a cluster has only database 0)",
        ],
    ),
    "nodes_without_cluster": (
        "rating:\n  bucket_backend:\n    connection:\n      nodes: [a:1]\n",
        [
            (
                "4:7: rating.bucket_backend.connection.nodes: are given, and cluster is False "
                "(set cluster: true, or use host)"
            ),
        ],
    ),
    "cluster_word": (
        "rating:\n  bucket_backend:\n    connection:\n      cluster: three\n",
        [
            (
                "4:16: rating.bucket_backend.connection.cluster: must be true or false (write "
                "true or false)"
            ),
        ],
    ),
    "tls_cert_alone": (
        ("rating:\n  bucket_backend:\n    connection:\n      host: h\n      tls: {cert: c.pem}\n"),
        [
            (
                "5:7: rating.bucket_backend.connection.tls: tls.key is missing (set tls.cert "
                "and tls.key together)"
            ),
        ],
    ),
    "tls_off": (
        (
            "rating:\n"
            "  bucket_backend:\n"
            "    connection:\n"
            "      host: h\n"
            "      tls: {enabled: false, ca: ca.pem}\n"
        ),
        [
            (
                "5:7: rating.bucket_backend.connection.tls: is off, and certificates are "
                "given (set tls: true, or rediss:// in the url)"
            ),
        ],
    ),
    "tls_word": (
        "rating:\n  bucket_backend:\n    connection:\n      host: h\n      tls: maybe\n",
        [
            (
                "5:12: rating.bucket_backend.connection.tls: must be true or false (write "
                "true or false)"
            ),
        ],
    ),
    "tls_key": (
        (
            "rating:\n"
            "  bucket_backend:\n"
            "    connection:\n"
            "      host: h\n"
            "      tls: {cafile: c.pem}\n"
        ),
        [
            (
                "5:13: rating.bucket_backend.connection.tls.cafile: unknown key 'cafile' "
                "(known here: ca, cert, enabled, key)"
            ),
        ],
    ),
    "tls_file_list": (
        ("rating:\n  bucket_backend:\n    connection:\n      host: h\n      tls: {ca: [c.pem]}\n"),
        [
            "5:13: rating.bucket_backend.connection.tls.ca: must be text (put it in quotes)",
        ],
    ),
    "username_number": (
        "rating:\n  bucket_backend:\n    connection:\n      host: h\n      username: 7\n",
        [
            "5:17: rating.bucket_backend.connection.username: must be text (put it in quotes)",
        ],
    ),
    "db_negative": (
        "rating:\n  bucket_backend:\n    connection:\n      host: h\n      db: -1\n",
        [
            (
                "5:11: rating.bucket_backend.connection.db: db is -1 (write a whole number "
                "from 0 to 99999)"
            ),
        ],
    ),
    "deadline": (
        "rating:\n  bucket_backend:\n    connection: {host: h}\n    deadline: 20s\n",
        [
            "4:15: rating.bucket_backend.deadline: is 20.0 (write seconds from 0.001 to 10)",
        ],
    ),
    "deadline_without_host": (
        "rating:\n  bucket_backend:\n    deadline: 20s\n    connection: {host: }\n",
        [
            "3:15: rating.bucket_backend.deadline: is 20.0 (write seconds from 0.001 to 10)",
        ],
    ),
    "prefix": (
        "rating:\n  bucket_backend:\n    connection: {host: h}\n    prefix: 'a{b'\n",
        [
            (
                "4:13: rating.bucket_backend.prefix: is 'a{b' (leave braces out: those of the "
                "key keep it on one node of a cluster)"
            ),
        ],
    ),
    "prefix_secret": (
        "rating:\n  bucket_backend:\n    connection: {host: h}\n    prefix: '${env:LONG}'\n",
        [
            (
                "4:13: rating.bucket_backend.prefix: is '${env:LONG}' (write up to 64 bytes "
                "of printable text)"
            ),
        ],
    ),
    "active_active": (
        "rating:\n  bucket_backend:\n    connection: {host: h}\n    active_active: both\n",
        [
            (
                "4:20: rating.bucket_backend.active_active: must be true or false (write true "
                "or false)"
            ),
        ],
    ),
    "regions_missing": (
        "rating:\n  bucket_backend:\n    connection: {host: h}\n    active_active: true\n",
        [
            (
                "2:3: rating.bucket_backend: regions are missing beside active_active (name all "
                "regions, the own one too, such as [eu, us])"
            ),
        ],
    ),
    "regions_of_one_server": (
        "rating:\n  bucket_backend:\n    connection: {host: h}\n    regions: [eu, us]\n",
        [
            (
                "4:5: rating.bucket_backend.regions: are given without active_active (set "
                "active_active: true where each region has a Redis of its own, or leave them out)"
            ),
        ],
    ),
    "a_region_twice": (
        (
            "rating:\n  bucket_backend:\n    connection: {host: h}\n    active_active: true\n"
            "    regions: [eu, us, eu]\n"
        ),
        [
            "5:23: rating.bucket_backend.regions[2]: is 'eu' once more (name each region once)",
        ],
    ),
    "region_of_no_list": (
        (
            "region: ap\nrating:\n  bucket_backend:\n    connection: {host: h}\n"
            "    active_active: true\n    regions: [eu, us]\n"
        ),
        [
            (
                "1:9: region: is 'ap', which is none of regions (eu, us) (correct it, or add it "
                "to regions on all nodes)"
            ),
        ],
    ),
    "backend_key": (
        "rating:\n  bucket_backend:\n    connection: {host: h}\n    timeout: 1s\n",
        [
            (
                "4:5: rating.bucket_backend.timeout: unknown key 'timeout' (did you mean "
                "'connect_timeout'?)"
            ),
        ],
    ),
    "consistency_of_service": (
        "services:\n  a:\n    limit: 1/s\n    consistency: fallback\n",
        [
            (
                "4:18: services.a.consistency: 'fallback' is no choice (known here: eventual, "
                "strong)"
            ),
        ],
    ),
    "on_outage": (
        "rating:\n  on_outage: quotas\n",
        [
            "2:14: rating.on_outage: 'quotas' is no choice (did you mean 'quota'?)",
        ],
    ),
    "on_outage_of_service": (
        "services:\n  a:\n    limit: 1/s\n    on_outage: open\n",
        [
            (
                "4:16: services.a.on_outage: 'open' is no choice (known here: allow, deny, "
                "eventual, quota)"
            ),
        ],
    ),
    "fallback_ratio_zero": (
        "rating:\n  fallback_ratio: 0\n",
        [
            (
                "2:19: rating.fallback_ratio: is 0 (write a share above 0 and up to 1, such "
                'as 0.1 or "10%")'
            ),
        ],
    ),
    "fallback_ratio_ten": (
        "rating:\n  fallback_ratio: 10\n",
        [
            (
                "2:19: rating.fallback_ratio: is 10 (write a share above 0 and up to 1, such "
                'as 0.1 or "10%")'
            ),
        ],
    ),
    "fallback_ratio_word": (
        "rating:\n  fallback_ratio: a tenth\n",
        [
            "2:19: rating.fallback_ratio: is 'a tenth' (write a number such as 0.1, or \"10%\")",
        ],
    ),
    "fallback_ratio_bool": (
        "rating:\n  fallback_ratio: true\n",
        [
            '2:19: rating.fallback_ratio: is True (write a number such as 0.1, or "10%")',
        ],
    ),
    "fallback_ratio_secret": (
        "rating:\n  fallback_ratio: ${env:SECRET}\n",
        [
            (
                "2:19: rating.fallback_ratio: is '${env:SECRET}' (write a number such as 0.1, "
                'or "10%")'
            ),
        ],
    ),
    "fallback_scope": (
        "rating:\n  fallback_scope: region\n",
        [
            "2:19: rating.fallback_scope: 'region' is no choice (known here: fleet, node)",
        ],
    ),
    "modes_key": (
        "rating:\n  modes:\n    latency: 20ms\n",
        [
            "3:5: rating.modes.latency: unknown key 'latency' (did you mean 'latency_limit'?)",
        ],
    ),
    "modes_range": (
        ("rating:\n  modes:\n    latency_limit: 2m\n    least_samples: 0\n    stable_after: 1w\n"),
        [
            (
                "4:20: rating.modes.least_samples: least_samples is 0 (write a whole number "
                "from 1 to 1000000)"
            ),
        ],
    ),
    "modes_ranges": (
        "rating:\n  modes:\n    latency_limit: 2m\n    stable_after: 1w\n",
        [
            (
                "3:20: rating.modes.latency_limit: latency_limit is 120.0 (write seconds from "
                "0.0001 to 60)"
            ),
            (
                "4:19: rating.modes.stable_after: stable_after is 604800.0 (write seconds "
                "from 0 to 3600)"
            ),
        ],
    ),
    "modes_order": (
        "rating:\n  modes:\n    latency_limit: 1s\n",
        [
            (
                "3:20: rating.modes.latency_limit: latency_limit is 1.0 (it must be shorter than "
                "outage_after, 0.5 s)"
            ),
        ],
    ),
    "modes_milliseconds": (
        "rating:\n  modes:\n    latency_limit: 20\n",
        [
            (
                "3:20: rating.modes.latency_limit: latency_limit is 20.0 (it must be shorter than "
                'outage_after, 0.5 s, or "20ms" for milliseconds)'
            ),
        ],
    ),
    "modes_orders": (
        "rating:\n  modes:\n    probe_interval: 2s\n    longest_probe_interval: 1s\n",
        [
            (
                "3:21: rating.modes.probe_interval: probe_interval is 2.0 (it must be at most "
                "longest_probe_interval, 1 s)"
            ),
        ],
    ),
    "modes_quantile": (
        "rating:\n  modes:\n    latency_quantile: 100%\n",
        [
            (
                "3:23: rating.modes.latency_quantile: latency_quantile is 1.0 (write a number "
                "from 0.5 to 0.9999)"
            ),
        ],
    ),
    "modes_unit": (
        "rating:\n  modes:\n    outage_after: 5 ticks\n",
        [
            (
                "3:19: rating.modes.outage_after: duration is '5 ticks' (no unit is 'ticks'; "
                'write a number and a unit: "250ms", "1s", "5m", "2h" or "1d")'
            ),
        ],
    ),
    "webhook": (
        "rating:\n  webhook: hooks.example.com/hunter2\n",
        [
            (
                "2:12: rating.webhook: webhook is no http:// or https:// address (write it "
                'whole, such as "https://alerts.example.com/crdtbucket")'
            ),
        ],
    ),
    "webhook_scheme": (
        "rating:\n  webhook: ftp://u:${env:SECRET}@h/\n",
        [
            (
                "2:12: rating.webhook: webhook is no http:// or https:// address (write it "
                'whole, such as "https://alerts.example.com/crdtbucket")'
            ),
        ],
    ),
    "webhook_list": (
        "rating:\n  webhook: ['http://h']\n",
        [
            (
                "2:3: rating.webhook: webhook is no http:// or https:// address (write it "
                'whole, such as "https://alerts.example.com/crdtbucket")'
            ),
        ],
    ),
}
