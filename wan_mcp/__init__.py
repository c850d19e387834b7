"""wan-mcp: an MCP server that replaces the character in a video, and never pays twice.

One call goes through surface, jobs, payments and pixeldojo, and the answer comes back through the
ledger. Each room below imports only rooms that stand lower in this list.

    __main__    starts the program: stdio directly, everything else through cli
    cli         the commands, apart from the stdio server
    server      connects the rooms
    app         what a running server holds, for one account or for a team
    surface     what a model or a host sees: tools, answers, resources, prompt, tasks, player
    jobs        submit, check, wait and list: the door from surface to the rooms below
    polling     when PixelDojo is asked for the status of jobs, and who is informed
    payments    buys jobs, and looks up requests whose answer was lost; no other room may buy
    videos      finished videos: download, storage, inspection, contact sheets
    inputs      the files of a job: which may be read, what is sent, the check before a job is paid
    transports  stdio and HTTP, who calls over HTTP, and how a server stops
    tenants     the people of a team: who calls, whose key pays, tokens, audit
    ledger      the durable record of every paid request, and the rules about it
    pixeldojo   PixelDojo's API: its words, its errors, and how to reach it
    settings    settings from the environment
    storage     where files lie: the user's data folder, file locks, object storage, lent files
    web         public links and addresses, and how files are fetched
    front_desk  answers hosts and health checks before the rest of the program is imported
    models      the types that the rooms share
    errors      every error, sorted by what the caller can do next
    clock       time and randomness, passed in so that tests can control them
    logs        what may be written to the log, and what is counted
    wording     numbers, plurals and durations in sentences, written one way everywhere
    sandbox     a simulated PixelDojo on this computer; it imports no other room
"""
