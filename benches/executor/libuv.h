/* For executor.c, libuv: uv_queue_work, with requests that are at hand */

static uv_loop_t loop;
static uv_work_t requests[MOST];

static void run_job(uv_work_t *request) {
    job((size_t)(request - requests));
}

static void on_done(uv_work_t *request, int status) {
    must(status);
    told((size_t)(request - requests));
}

static void executor_open(int mode) {
    (void)mode;
    must(uv_loop_init(&loop));
}

static void executor_submit(size_t slot) {
    must(uv_queue_work(&loop, &requests[slot], run_job, on_done));
}

static void executor_run(void) {
    uv_run(&loop, UV_RUN_DEFAULT);
}

static void executor_stop(void) {
    uv_stop(&loop);
}

static void executor_close(void) {
    must(uv_loop_close(&loop));
}

#define VARIANTS(workload, jobs) {workload, "uv_queue_work", measure, jobs, 0, EVERY_CORE}
