module servers/pause

go 1.26.0
