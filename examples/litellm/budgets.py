"""A budget of tokens for each API key of LiteLLM's proxy, of which each request is charged what it
used. From the folder of this file:

pip install 'crdtbucket[litellm]' && litellm --config config.yaml
curl -i http://127.0.0.1:4000/chat/completions -H 'Authorization: Bearer sk-example' \
    -H 'Content-Type: application/json' \
    -d '{"model": "answers", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}'

Asked again, it answers 429 and `Retry-After` as soon as the budget is used up.
"""

from crdtbucket import BucketSpec, Limiter
from crdtbucket.integrations.litellm import BudgetHook

limiter = Limiter([BucketSpec.parse("tokens", "150/day")])  # so few, to see a denial soon
hook = BudgetHook(limiter.bucket("tokens"))
