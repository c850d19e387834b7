"""wan-mcp: put a character into a video, from any MCP host, without paying twice.

One call walks tools -> jobs -> pixeldojo -> HTTP and back.

    __main__, commands, demo   the command line
    stdio, http                who is talking, and when to stop
    server                     wires the rooms below
    tools, arguments, schema, present   what a model may pass and read
    jobs                       every rule of money and time
    pixeldojo                  the vendor's words, and how to reach it
    models, errors, addresses  our own words
    sandbox                    the vendor on loopback; it knows nothing of the rest
"""
