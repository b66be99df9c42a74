#!/usr/bin/env -S gjs -m
// Generates text from JavaScript: generate.js [PROMPT [MODEL]].
import Gio from 'gi://Gio';
import GLib from 'gi://GLib';
import Millrace from 'gi://Millrace?version=1.0';
import System from 'system';

Gio._promisify(Millrace.Model, 'load_async', 'load_finish');
Gio._promisify(Millrace.Generator.prototype, 'add_model_async', 'add_model_finish');
Gio._promisify(Millrace.Stream.prototype, 'next_async', 'next_finish');

Millrace.Stream.prototype[Symbol.asyncIterator] = async function* () {
    try {
        for (let text; (text = await this.next_async(null)) !== null;)
            yield text;
    } finally {
        this.cancel(); // a loop that was left early
    }
};

async function main(prompt = 'import os', name = 'demo') {
    const generator = new Millrace.Generator();
    await generator.add_model_async(await Millrace.Model.load_async(name, Millrace.Weights.AUTO, 0, null), null);

    let whole = '';
    for await (const text of generator.stream(new Millrace.Request({prompt, max_tokens: 24}), null))
        whole += text;
    print(whole);

    const endless = generator.stream(new Millrace.Request({prompt, max_tokens: 0, ignore_eos: true, buffer_size: 64}), null);
    for await (const text of endless) {
        if (text)
            break;
    }
    try {
        while (await endless.next_async(null) !== null)
            ; // what had come before it was cancelled
    } catch (error) {
        printerr(error.matches(Gio.IOErrorEnum, Gio.IOErrorEnum.CANCELLED) ? 'cancelled' : error.message);
    }

    try {
        generator.stream(new Millrace.Request({prompt, temperature: 3000}), null);
    } catch (error) {
        if (!error.matches(Millrace.Error, Millrace.Error.INVALID_REQUEST))
            throw error;
        printerr(error.message);
    }
}

const loop = new GLib.MainLoop(null, false);
let status = 0;
main(...System.programArgs).catch(error => {
    logError(error);
    status = 1;
}).finally(() => loop.quit());
loop.run();
System.exit(status);
