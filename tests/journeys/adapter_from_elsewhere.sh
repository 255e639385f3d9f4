# Someone has an adapter and a merged model that other tools made. BASE ADAPTER MERGED TASKS LIMIT
base=$1 adapter=$2 merged=$3 tasks=$4 limit=$5

# Is the adapter any better than its base, and is the merged model what the two say together?
slmbench eval "$base" --adapter "$adapter" --tasks "$tasks" --limit "$limit" --out out
slmbench eval "$merged" --tasks "$tasks" --limit "$limit" --out out

# The machine where it is to run has no network.
$OFFLINE slmbench export "$adapter" --to merged --dtype float32 --out out
$OFFLINE slmbench eval "out/models/$(basename "$adapter")-merged" --tasks "$tasks" --limit "$limit" --out out
$OFFLINE slmbench leaderboard out --out board
