"""The small cosigning service: it vouches that ledgers only grow. See `agent.witness.service`."""
