/*
 * pmu/percpu_rwsem: readers pay a compiler barrier, writers membarrier(2). README.md says what is modelled.
 *
 * A reader's stores to its own cell wait in a store buffer and reach memory later, in order (x86-TSO). Loads
 * see memory, or the thread's own latest store. What is done under the mutex is one step, since nobody else
 * looks at that data without it. Readers and writers go on for ever, or stop at any time.
 */

#ifndef READERS
#define READERS 2
#endif
#ifndef WRITERS
#define WRITERS 2
#endif
#define BUFFERED 2 /* stores a buffer holds */

/* Names for assertions: always 0, printed by pan with the assertion that failed. */
hidden byte not_exclusive;

bit cell[READERS];      /* memory: the reader's mark */
byte buffered[READERS]; /* stores on their way. Each turns the mark round, so their number is enough */
bit flag;               /* a writer waits or is in; written under the mutex */

/* The futex that a writer sleeps on: has departures_ changed since it was read? Is the writer asleep? */
bit departed;
bit asleep;

/* Under the mutex. */
byte next_ticket, serving; /* modulo 4 */
byte sleepers, admitted;
bit phase; /* one bit: nobody sleeps through two, since a writer waits for the admitted */

/* What only the assertions and formulas look at. */
byte reading, writing;
bit reader_waits, writer_waits; /* reader 0, writer 0 */

inline store_reaches_memory(r) {
  d_step { buffered[r] > 0 -> buffered[r]--; cell[r] = !cell[r] }
}

/* A full barrier: an atomic read-modify-write, a mutex, membarrier's interrupt. */
inline drain(r) {
  d_step {
    cell[r] = (buffered[r] & 1 -> !cell[r] : cell[r]);
    buffered[r] = 0
  }
}

/* The reader turns its mark round: a plain store. */
inline turn_mark(r) {
#ifdef READERS_FENCE
  atomic { buffered[r]++; drain(r) }
#else
  atomic { buffered[r] < BUFFERED -> buffered[r]++ }
#endif
}

inline wake_writer(r) {
  atomic { drain(r); departed = 1 } /* G */
  asleep = 0
}

proctype reader(byte me) {
  bit seen, slept, slept_in;
  do
  :: true ->
    reader_waits = (me == 0 -> 1 : reader_waits);
  again:
#ifdef READER_LOOKS_FIRST
    seen = flag;
    turn_mark(me);
#else
    turn_mark(me); /* A */
    seen = flag; /* B */
#endif
#ifdef READER_DOES_NOT_LOOK
    seen = 0;
#endif
    if
    :: seen ->
      turn_mark(me); /* back out */
#ifndef BACKS_OUT_SILENTLY
      wake_writer(me);
#endif
      atomic { /* mutex: sleep until the writer has left, or mark under the mutex */
        drain(me);
        slept = flag;
        if
        :: flag -> sleepers++; slept_in = phase
        :: else -> cell[me] = 1
        fi
      }
      if
      :: slept ->
#ifdef READER_RETRIES
        atomic { phase != slept_in -> slept = 0; slept_in = 0; goto again }
#else
        atomic { phase != slept_in -> admitted--; cell[me] = 1; slept = 0; slept_in = 0 }
#endif
      :: else
      fi
    :: else
    fi;
    atomic {
      seen = 0;
      reading++;
      assert(!writing || not_exclusive);
      reader_waits = (me == 0 -> 0 : reader_waits)
    }
    atomic { reading--; turn_mark(me) } /* D */
    seen = flag;                          /* A, again */
    if
    :: seen ->
#ifndef LEAVES_SILENTLY
      wake_writer(me);
#endif
      seen = 0
    :: else
    fi
  :: true -> break
  od
}

proctype writer(byte me) {
  byte ticket, r;
  bit marked;
  do
  :: true ->
    atomic {
      ticket = next_ticket;
      next_ticket = (next_ticket + 1) % 4;
      writer_waits = (me == 0 -> 1 : writer_waits)
    }
#ifdef WRITER_WAITS_FOR_NO_READERS
    atomic { serving == ticket && !cell[0] && !cell[1] -> flag = 1 }
#else
    atomic { serving == ticket -> flag = 1 }
#endif
    admitted == 0;
#if !defined(NO_MEMBARRIER) && !defined(READERS_FENCE)
    /* C: on one CPU after the other */
    r = 0;
    do
    :: r < READERS -> drain(r); r++
    :: else -> break
    od;
#endif
    do
    :: true ->
#ifndef WRITER_LOOKS_BEFORE_READING_DEPARTURES
      departed = 0; /* H: reads departures_ */
#endif
      marked = 0;
      r = 0;
      do
      :: r < READERS -> atomic { marked = marked | cell[r]; r++ } /* E */
      :: else -> break
      od;
      r = 0;
#ifdef WRITER_LOOKS_BEFORE_READING_DEPARTURES
      departed = 0;
#endif
      if
      :: marked
      :: else -> break
      fi;
#ifdef WRITER_SLEEPS_WITHOUT_LOOKING
      asleep = 1;
#else
      asleep = !departed; /* FUTEX_WAIT */
#endif
      !asleep
    od;
    atomic {
      marked = 0;
      writing++;
      assert((writing == 1 && !reading) || not_exclusive);
      writer_waits = (me == 0 -> 0 : writer_waits)
    }
    atomic { /* F: leaves, under the mutex */
      writing--;
      flag = 0;
#ifndef READER_RETRIES
      admitted = sleepers;
#endif
      sleepers = 0;
#ifndef WRITER_WAKES_NOBODY
      phase = !phase;
#endif
      serving = (serving + 1) % 4;
      ticket = 0
    }
  :: true -> break
  od
}

/* The store buffers. */
proctype store_buffer(byte me) {
end:
  do
  :: store_reaches_memory(me)
  od
}

init {
  byte n;
  atomic {
    do
    :: n < READERS -> run reader(n); run store_buffer(n); n++
    :: else -> break
    od;
    n = 0;
    do
    :: n < WRITERS -> run writer(n); n++
    :: else -> break
    od;
    n = 0
  }
}

ltl writer_gets_in { [] (writer_waits -> <> !writer_waits) }
ltl reader_gets_in { [] (reader_waits -> <> !reader_waits) }
