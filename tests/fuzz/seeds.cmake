# Makes the seeds that are too large to keep, or change with the code: a trained run's files, and models.
# cmake -DTANDEM=.. -DPIECES=.. -DSOURCE=.. -DOUT=.. -P seeds.cmake
file(REMOVE_RECURSE ${OUT})
file(MAKE_DIRECTORY ${OUT})

function(run)
    execute_process(COMMAND ${ARGN} RESULT_VARIABLE code OUTPUT_VARIABLE said ERROR_VARIABLE said)
    if(code)
        message(FATAL_ERROR "${ARGN} ended with ${code}: ${said}")
    endif()
endfunction()

run(${TANDEM} train -c ${SOURCE}/configs/quickstart/decllm.cfg model.layers=1 train.steps=4 train.checkpoint_every=4 train.log_every=1
    train.evaluate_every=2 evaluate.sequences=3 run.dir=${OUT} run.name=run
    train.length=33 train.batch=2 train.micro_batch=2 --threads 1)
run(${TANDEM} evaluate ${OUT}/run --threads 1)
file(GLOB state ${OUT}/run/checkpoints/*/state.json)
file(COPY ${state} ${OUT}/run/metrics.jsonl DESTINATION ${OUT})
file(READ ${OUT}/run/eval/heldout.json summary)
file(READ ${OUT}/run/eval/heldout.jsonl items)
# without its hash, which anything that the fuzzer changes would be refused for
string(REGEX REPLACE ",\n *\"hash\": \"[0-9a-f]*\"" "" summary "${summary}")
file(WRITE ${OUT}/heldout.results "${summary}\n----\n${items}")
file(REMOVE_RECURSE ${OUT}/run)
run(${PIECES} ${SOURCE}/data/corpus/lists.valid.jsonl ${OUT})
