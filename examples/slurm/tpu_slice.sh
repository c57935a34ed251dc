#!/bin/bash
# A TPU slice of several hosts, from outside: the same command on every host.
#   NAME=my-slice ZONE=us-west4-a HOSTS=4 bash examples/slurm/tpu_slice.sh
# On hosts where TPU_WORKER_HOSTNAMES and TPU_WORKER_ID are set (Kubernetes on Google Cloud sets them), the options of
# several processes can be left out. Here the host's own number at the end of its name says which process it is.
set -euo pipefail
: "${NAME:?the name of the TPU slice}" "${ZONE:?its zone}" "${HOSTS:?the number of its hosts}"

ADDRESS=$(gcloud compute tpus tpu-vm describe "$NAME" --zone "$ZONE" --format 'value(networkEndpoints[0].ipAddress)')
gcloud compute tpus tpu-vm ssh "$NAME" --zone "$ZONE" --worker all --command "
  cd demega-jax && demega-jax train configs/default.yaml --data data --run runs/slice --join-within 300 \
    --coordinator $ADDRESS:61500 --processes $HOSTS --process-id \"\${HOSTNAME##*-}\""
