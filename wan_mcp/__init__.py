"""wan-mcp: put a character into a video, from any MCP host, without paying twice.

One call walks tools -> jobs -> pixeldojo -> HTTP and back.

    __main__, commands, demo   the command line
    stdio, http                who is talking, and when to stop
    server, running            wire the rooms below, and hold them while it runs
    tools, arguments, schema, calls, present, advice, prose   what a model may pass and read
    resources, tasks, prompts, app   what some hosts show besides
    jobs                       every rule of money and time
    gallery, media             a look at the inputs, the films that are kept
    pixeldojo                  the vendor's words, and how to reach it
    models, errors, addresses, places  our own words
    logs                       what may be written to stderr
    sandbox                    the vendor on loopback; it knows nothing of the rest
"""
