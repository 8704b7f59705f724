"""Wrong defaults, plans and shadows, and what a user is told about each, as in `wrong_configs`."""

from __future__ import annotations

from tests.wrong_configs import GRAMMAR

WRONG_SERVICES: dict[str, tuple[str, list[str]]] = {
    "defaults_unknown": (
        "defaults:\n  burst: 5\n",
        [
            (
                "2:3: defaults.burst: unknown key 'burst' (known here: bucket, "
                "calendar, concurrency, consistency, limit, on_outage, shadow)"
            ),
        ],
    ),
    "defaults_keys": (
        "defaults:\n  keys: {a: 1/s}\n",
        [
            (
                "2:3: defaults.keys: unknown key 'keys' (known here: bucket, "
                "calendar, concurrency, consistency, limit, on_outage, shadow)"
            ),
        ],
    ),
    "defaults_text": (
        "defaults: 5/s\n",
        [
            ("1:11: defaults: must be a mapping (write keys and values, indented below it)"),
        ],
    ),
    "defaults_limit": (
        "defaults:\n  limit: often\nservices: {a: }\n",
        [
            "2:10: defaults.limit: limit is 'often' (" + GRAMMAR + ")",
        ],
    ),
    "defaults_capacity": (
        "defaults:\n  bucket: {capacity: -5}\nservices: {a: , b: }\n",
        [
            (
                "2:22: defaults.bucket.capacity: capacity is -5 (write a whole number "
                "from 1 to 2^53)"
            ),
        ],
    ),
    "defaults_interval": (
        (
            "defaults:\n"
            "  bucket: {refill_interval: 0}\n"
            "services:\n"
            "  a: {bucket: {capacity: 1, refill_rate: 1}}\n"
            "  b: {bucket: {capacity: 1, refill_rate: 1}}\n"
        ),
        [
            (
                "2:29: defaults.bucket.refill_interval: refill_interval is 0 (it must be "
                "above 0 and at most 366 days)"
            ),
        ],
    ),
    "defaults_consistency": (
        "defaults:\n  consistency: fallback\n",
        [
            ("2:16: defaults.consistency: 'fallback' is no choice (known here: eventual, strong)"),
        ],
    ),
    "defaults_outage": (
        "defaults:\n  on_outage: block\n",
        [
            (
                "2:14: defaults.on_outage: 'block' is no choice (known here: allow, deny, "
                "eventual, quota)"
            ),
        ],
    ),
    "defaults_shadow": (
        "defaults:\n  shadow: maybe\n",
        [
            "2:11: defaults.shadow: must be true or false (write true or false)",
        ],
    ),
    "defaults_both": (
        "defaults:\n  limit: 1/s\n  bucket: {capacity: 1}\n",
        [
            "1:1: defaults: has both bucket and limit (keep one of them)",
        ],
    ),
    "defaults_twice": (
        "defaults: {limit: 1/s}\nrating:\n  defaults: {limit: 2/s}\n",
        [
            (
                "3:14: rating.defaults.limit: is given twice (it is also in line 1 as "
                "defaults.limit; keep one)"
            ),
        ],
    ),
    "defaults_not_enough": (
        "defaults:\n  bucket: {capacity: 1}\nservices:\n  a:\n",
        [
            (
                "4:3: services.a.bucket.refill_rate: refill_rate is missing (add "
                "refill_rate: with its value)"
            ),
        ],
    ),
    "defaults_not_enough_below": (
        "defaults:\n  bucket: {capacity: 1}\nservices:\n  a:\n    bucket: {refill_rate: }\n",
        [
            (
                "5:14: services.a.bucket.refill_rate: refill_rate is blank (add "
                "refill_rate: with its value)"
            ),
        ],
    ),
    "defaults_with_service": (
        (
            "defaults:\n"
            "  bucket: {refill_interval: 31d}\n"
            "services:\n"
            "  a: {bucket: {capacity: 1, refill_rate: 1}}\n"
        ),
        [
            (
                "4:42: services.a.bucket.refill_rate: refill_rate is 1 in "
                "2678400000000000 ns (at least one token in 30 days; raise it or shorten "
                "refill_interval)"
            ),
        ],
    ),
    "secret_in_defaults": (
        "defaults:\n  limit: ${env:SECRET}\nservices: {a: }\n",
        [
            "2:10: defaults.limit: limit is '${env:SECRET}' (" + GRAMMAR + ")",
        ],
    ),
    "keys_list": (
        "services:\n  a:\n    limit: 1/s\n    keys: [b, c]\n",
        [
            (
                "4:11: services.a.keys: must be a mapping (write keys and values, indented below "
                "it, in place of the list)"
            ),
        ],
    ),
    "keys_number": (
        "services:\n  a:\n    limit: 1/s\n    keys: {b: 100}\n",
        [
            "4:15: services.a.keys.b: limit is 100 (" + GRAMMAR + ")",
        ],
    ),
    "keys_list_below": (
        "services:\n  a:\n    limit: 1/s\n    keys: {b: [1/s]}\n",
        [
            (
                "4:15: services.a.keys.b: must be a mapping (write keys and values, "
                "indented below it, in place of the list)"
            ),
        ],
    ),
    "keys_rate": (
        "services:\n  a:\n    limit: 1/s\n    keys: {premium-*: 10/month}\n",
        [
            (
                "4:23: services.a.keys.premium-*: limit is '10/month' (a month has no "
                'fixed length; write days, such as "1000/30d", or give the bucket a calendar)'
            ),
        ],
    ),
    "keys_blank": (
        "services:\n  a:\n    limit: 1/s\n    keys: {b: , c: {}}\n",
        [
            (
                '4:12: services.a.keys.b: has no limit (add "1000/minute burst 2000", '
                "bucket: or limit:)"
            ),
            (
                '4:17: services.a.keys.c: has no limit (add "1000/minute burst 2000", '
                "bucket: or limit:)"
            ),
        ],
    ),
    "keys_unknown": (
        "services:\n  a:\n    limit: 1/s\n    keys:\n      b: {bucket: {capcity: 5}}\n",
        [
            (
                "5:20: services.a.keys.b.bucket.capcity: unknown key 'capcity' (did you "
                "mean 'capacity'?)"
            ),
        ],
    ),
    "keys_consistency": (
        "services:\n  a:\n    limit: 1/s\n    keys:\n      b: {consistency: strong}\n",
        [
            (
                "5:11: services.a.keys.b.consistency: unknown key 'consistency' (write it as "
                "services: {NAME: {consistency: ...}})"
            ),
        ],
    ),
    "concurrency_alone": (
        "services:\n  a:\n    concurrency: {ttl: 5s}\n",
        ["3:5: services.a.concurrency.slots: slots is missing (add slots: with its value)"],
    ),
    "concurrency_and_rate": (
        "services:\n  a: {concurrency: 5, limit: 5/s}\n",
        ["2:3: services.a: has both concurrency and a rate (keep one of them)"],
    ),
    "concurrency_none": (
        "services:\n  a: {concurrency: 0}\n",
        ["2:20: services.a.concurrency: slots is 0 (write a whole number from 1 to 1000)"],
    ),
    "concurrency_long": (
        "services:\n  a: {concurrency: {slots: 5, ttl: 40d}}\n",
        ["2:36: services.a.concurrency.ttl: ttl is '40d' (it must be 100 ms to 30 days)"],
    ),
    "concurrency_strong": (
        (
            "shared: auto\n"
            "rating: {consistency: strong, bucket_backend: {connection: {host: redis}}}\n"
            "services:\n  a: {concurrency: 5}\n"
        ),
        [
            (
                "4:20: services.a.concurrency: has strong slots, and this process shares a table "
                "(give this bucket consistency: eventual, or leave out shared and --workers)"
            ),
        ],
    ),
    "concurrency_key": (
        "services:\n  a: {limit: 5/s, keys: {x: {concurrency: 5}}}\n",
        [
            (
                "2:19: services.a.keys: the override for 'x' is of another kind than its bucket "
                "(give both slots (BucketSpec.concurrency), or both tokens)"
            ),
        ],
    ),
    "keys_bracket": (
        "services:\n  a:\n    limit: 1/s\n    keys: {'b[': 1/s}\n",
        [
            ("4:12: services.a.keys.b[: glob 'b[' has a '[' without a ']' (write '[[]' for a '[')"),
        ],
    ),
    "keys_after_all": (
        "services:\n  a:\n    limit: 1/s\n    keys:\n      '*': 2/s\n      b: 3/s\n",
        [
            (
                "4:5: services.a.keys: the override for 'b' comes after '*' (put it before: "
                "'*' takes all such keys)"
            ),
        ],
    ),
    "keys_twice": (
        "services:\n  a:\n    limit: 1/s\n    keys:\n      b: 2/s\n      b: 3/s\n",
        [
            ("6:7: services.a.keys.b: key 'b' is given twice (it is also in line 5; keep one)"),
        ],
    ),
    "keys_too_slow": (
        ("services:\n  a:\n    limit: 1/s\n    keys:\n      b: {bucket: {refill_interval: 31d}}\n"),
        [
            (
                "3:12: services.a.limit: refill_rate is 1 in 2678400000000000 ns for "
                "services.a.keys.b (at least one token in 30 days; raise it or shorten "
                "refill_interval)"
            ),
        ],
    ),
    "keys_shadow": (
        (
            "services:\n"
            "  a:\n"
            "    limit: 1/s\n"
            "    shadow: true\n"
            "    keys:\n"
            "      b: {shadow: false}\n"
        ),
        [
            (
                "6:19: services.a.keys.b.shadow: is false in a bucket that is a shadow "
                "(leave it out here, or give shadow to the overrides that need it)"
            ),
        ],
    ),
    "secret_as_plan": (
        "services:\n  a:\n    limit: 1/s\n    keys: {b: '${env:SECRET}'}\n",
        [
            "4:15: services.a.keys.b: limit is '${env:SECRET}' (" + GRAMMAR + ")",
        ],
    ),
    "shadow_word": (
        "services:\n  a:\n    limit: 1/s\n    shadow: only\n",
        [
            "4:13: services.a.shadow: must be true or false (write true or false)",
        ],
    ),
}
