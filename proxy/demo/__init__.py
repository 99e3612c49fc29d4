"""The demo backend: an OpenAI-compatible server that needs no model.

It writes deterministic prose, speaks the wire shapes of vLLM and OpenAI, and misbehaves on request.
`headgate demo` shows it to newcomers; the test suite uses it as the thing behind the proxy.
Nothing in the data path imports this package.
"""
