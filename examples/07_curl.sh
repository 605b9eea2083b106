#!/bin/sh
# Talks to a running server (`llm serve`) with curl alone: any OpenAI client does the same.
#   examples/07_curl.sh [http://127.0.0.1:8000] [KEY]
set -eu
url=${1:-http://127.0.0.1:8000}
ask() { path=$1; shift; curl -sS --fail-with-body --retry 20 --retry-connrefused -H 'content-type: application/json' ${KEY:+-H "authorization: Bearer $KEY"} "$@" "$url$path"; echo; }
KEY=${2:-${LLM_API_KEY:-}}

echo '# is it there, and what does it serve?'
ask /health
ask /v1/models

echo '# a question'
ask /v1/chat/completions -d '{"messages":[{"role":"user","content":"What is the capital of France?"}],"max_tokens":40}'

echo '# the same as it is made'
ask /v1/chat/completions -N -d '{"messages":[{"role":"user","content":"What is the capital of France?"}],"max_tokens":40,"stream":true}'

echo '# vectors, and a count of tokens'
ask /v1/embeddings -d '{"input":["a red apple","a green pear"]}' | cut -c1-200
ask /tokenize -d '{"prompt":"a red apple"}'
