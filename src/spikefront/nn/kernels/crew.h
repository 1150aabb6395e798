// Threads that share work without waiting for each other more than they must.
//
// OpenMP's threads meet at the end of every region, spinning: where other processes want the cores too, each of a
// network's many small regions waits until the system has let all threads run. Here whoever calls works too, and waits
// at the end only for what a helper has begun; a helper that didn't come in time is not missed, and nobody spins.

#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <omp.h>
#include <pthread.h>
#include <system_error>
#include <thread>

namespace {

class Crew {
  public:
    typedef std::function<void(int64_t)> Work;

    // work(i) for every i below `items`, in any order, on so many threads at most.
    void share(int64_t items, int64_t threads, const Work &work) {
        const std::unique_lock<std::mutex> alone(calling, std::try_to_lock);
        if (!alone || threads < 2 || items < 2) {
            for (int64_t i = 0; i < items; i++) work(i);
            return;
        }
        {
            const std::lock_guard<std::mutex> hold(lock);
            hire(threads - 1);
            job = &work, total = items, seats = std::min(threads, items) - 1, next = 0;
        }
        for (int64_t i = 1; i < std::min(threads, items); i++) wake.notify_one();
        run(work, items);
        std::unique_lock<std::mutex> hold(lock);
        job = nullptr;
        done.wait(hold, [&] { return active == 0; });
    }

    // This process's: a fork has none of its parent's threads. Never deleted: helpers wait in it to the end.
    static Crew &ours() {
        static std::atomic<Crew *> crew{nullptr};
        static std::once_flag made;
        std::call_once(made, [] {
            crew = new Crew;
            pthread_atfork(nullptr, nullptr, [] { crew = new Crew; });
        });
        return *crew;
    }

  private:
    std::mutex calling, lock;
    std::condition_variable wake, done;
    std::atomic<int64_t> next{0};
    const Work *job = nullptr;
    int64_t helpers = 0, seats = 0, active = 0, total = 0;

    void hire(int64_t wanted) {
        try {
            for (; helpers < wanted; helpers++) std::thread(&Crew::help, this).detach();
        } catch (const std::system_error &) {  // no more to be had: those that are there do
        }
    }

    void run(const Work &work, int64_t items) {
        for (int64_t i; (i = next.fetch_add(1)) < items;) work(i);
    }

    void help() {
        std::unique_lock<std::mutex> hold(lock);
        for (;;) {
            wake.wait(hold, [&] { return job && seats > 0; });
            const Work *work = job;
            const int64_t items = total;
            active++, seats--;
            hold.unlock();
            run(*work, items);
            hold.lock();
            if (--active == 0) done.notify_one();
        }
    }
};

// work(i) for every i below `items`, on as many threads as OpenMP would take, or on this one unless that is `worth` it.
inline void share(int64_t items, bool worth, const Crew::Work &work) {
    if (worth && omp_get_max_threads() > 1) return Crew::ours().share(items, omp_get_max_threads(), work);
    for (int64_t i = 0; i < items; i++) work(i);
}

// The same in parts of `size`: work(first, last).
template <typename Work> void share_parts(int64_t items, int64_t size, bool worth, const Work &work) {
    share((items + size - 1) / size, worth, [&](int64_t i) { work(i * size, std::min(items, (i + 1) * size)); });
}

}  // namespace
