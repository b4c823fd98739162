// Mounts the studio.
import { mount } from 'svelte';

import './studio.css';
import App from './App.svelte';

const target = document.getElementById('studio');
if (target) mount(App, { target });
